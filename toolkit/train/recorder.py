"""Sends losses to the event log, TensorBoard and the progress line, fetching them from the device a few at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.output.events import EventLog
from toolkit.runtime.progress import Progress
from toolkit.train.step import StepResult

_FLUSH_S = 1.0


class Recorder:
    """Records the result of every step. Waits for the device once a second, not once a step.

    Args:
        events: the event log.
        progress: the progress line.
        log_dir: folder for TensorBoard; None for none.
        log_every: number of steps between two entries for TensorBoard.
        factors: the other learning rates of a step, as factors of the job's; see `TrainableWeights.rates`.
    """

    def __init__(
        self,
        events: EventLog,
        progress: Progress,
        *,
        log_dir: Path | None,
        log_every: int,
        factors: Sequence[float] = (),
    ) -> None:
        self.events = events
        self.progress = progress
        self.log_dir = log_dir
        self.log_every = log_every
        self.factors = factors
        self._pending: list[tuple[int, StepResult]] = []
        self._board: Any = None

    def __enter__(self) -> Self:
        self._flushed_at = time.monotonic()
        if self.log_dir is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes half a second, and most jobs do not need it

            self._board = SummaryWriter(str(self.log_dir))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def record(self, step: int, result: StepResult) -> None:
        """Record the result of step `step` (counted from 1), which is written with the next flush."""
        self._pending.append((step, result))

    @property
    def is_due(self) -> bool:
        """Whether it is time for a flush. All ranks must flush together, for a flush may end the run."""
        return time.monotonic() - self._flushed_at >= _FLUSH_S

    def flush(self) -> None:
        """Write the pending results: once a second, and before every save, so that broken weights are never saved.

        Raises:
            UserError: a loss is no longer finite.
        """
        now = time.monotonic()
        if not self._pending:
            return
        figures = iter(_fetched([tensor for _, result in self._pending for tensor in _tensors(result)]))
        step_s = (now - self._flushed_at) / len(self._pending)
        for step, result in self._pending:
            loss, grad_norm = next(figures), next(figures)
            self._write(step, loss, {name: next(figures) for name in result.terms}, grad_norm, result.lr, step_s)
        self._pending.clear()
        self._flushed_at = now

    def resume_clock(self) -> None:
        """Restart the step timer after work that was not training."""
        self._flushed_at = time.monotonic()

    def _write(
        self, step: int, loss: float, terms: Mapping[str, float], grad_norm: float, lr: float, step_s: float
    ) -> None:
        rates = {f"lr x{factor:g}": lr * factor for factor in self.factors}
        more = {"rates": rates} if rates else {}
        self.events.write(
            "step", step=step, loss=loss, terms=terms, lr=lr, grad_norm=grad_norm, step_s=round(step_s, 4), **more
        )
        if not math.isfinite(loss):
            raise UserError(
                f"The loss of step {step} is {loss}: training has diverged, and nothing after the last checkpoint "
                "was saved. Lower train.lr, or look for a damaged image or caption near this step."
            )
        if self._board is not None and step % self.log_every == 0:
            named = {f"loss/{name}": value for name, value in terms.items()}
            for name, value in {"loss": loss, **named, "lr": lr, **rates, "grad_norm": grad_norm}.items():
                self._board.add_scalar(name, value, step)
        self.progress.update(step, loss, lr)


def _tensors(result: StepResult) -> list[Tensor]:
    return [result.loss, result.grad_norm, *result.terms.values()]


def _fetched(scalars: Sequence[Tensor]) -> list[float]:
    """The values of all scalars, with a single wait for the device."""
    values: list[float] = torch.stack([scalar.to(scalars[0]) for scalar in scalars]).tolist()
    return values
