"""Sends losses to the event log, TensorBoard and the progress line, once they have arrived from the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from toolkit.objectives.loss_groups import GroupFigures
from toolkit.output.events import EventLog
from toolkit.output.skipped_steps import SkippedSteps
from toolkit.runtime.progress import Progress
from toolkit.train.step import StepResult

_FLUSH_S = 1.0


class Recorder:
    """Records the result of every step, without waiting for the device while it has nothing else to do.

    Args:
        events: the event log.
        progress: the progress line.
        log_dir: folder for TensorBoard; None for none.
        log_every: number of steps between two entries for TensorBoard.
        factors: the other learning rates of a step, as factors of the job's; see `TrainableWeights.rates`.
        describe: says what a step was trained on, given the number of steps before it.

    Attributes:
        skipped: the steps that changed nothing.
    """

    def __init__(
        self,
        events: EventLog,
        progress: Progress,
        *,
        log_dir: Path | None,
        log_every: int,
        factors: Sequence[float] = (),
        describe: Callable[[int], str] = lambda step: "",
    ) -> None:
        self.events = events
        self.progress = progress
        self.log_dir = log_dir
        self.log_every = log_every
        self.factors = factors
        self.skipped = SkippedSteps(describe, self.warn)
        self._pending: list[_Recorded] = []
        self._board: Any = None
        self._since_entry: GroupFigures | None = None

    def __enter__(self) -> Self:
        self._flushed_at = self._clock = time.monotonic()
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
        self._pending.append(_Recorded(step, result, _Readback(_tensors(result)), time.monotonic()))

    def add(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Send figures that are not of a training step, such as those of a validation round, to TensorBoard."""
        for name, value in figures.items() if self._board is not None else ():
            if value is not None:
                self._board.add_scalar(name, value, step)

    @property
    def is_due(self) -> bool:
        """Whether it is time for a flush. All ranks must flush together, for a flush may end the run."""
        return time.monotonic() - self._flushed_at >= _FLUSH_S

    def flush_earlier(self) -> None:
        """Write the results of all steps but the last, which the device may still compute: once a second."""
        self._flush(self._pending[:-1])
        self._flushed_at = time.monotonic()

    def flush(self) -> None:
        """Write all results."""
        self._flush(self._pending)
        self._flushed_at = time.monotonic()

    def resume_clock(self) -> None:
        """Restart the step timer after work that was not training."""
        self._flushed_at = self._clock = time.monotonic()

    def warn(self, text: str) -> None:
        """Show a warning to the user and log it."""
        self.progress.message(f"warning: {text}")
        self.events.write("warning", text=text)

    def _flush(self, recorded: Sequence[_Recorded]) -> None:
        if not recorded:
            return
        figures = [one.readback.values() for one in recorded]
        until = time.monotonic() if recorded is self._pending else recorded[-1].at
        step_s, self._clock = (until - self._clock) / len(recorded), until
        self._pending = self._pending[len(recorded) :]
        for one, (loss, grad_norm, *others) in zip(recorded, figures, strict=True):
            num_terms = len(one.result.terms)
            named = dict(zip(one.result.terms, others[:num_terms], strict=True))
            groups = GroupFigures.of_step(others[num_terms:], grad_norm, one.result.groups.datasets)
            self._write(one.step, loss, named, grad_norm, one.result.lr, step_s, groups)

    def _write(
        self,
        step: int,
        loss: float,
        terms: Mapping[str, float],
        grad_norm: float,
        lr: float,
        step_s: float,
        groups: GroupFigures,
    ) -> None:
        rates = {f"lr x{factor:g}": lr * factor for factor in self.factors}
        more = {**({"rates": rates} if rates else {}), **groups.means()}
        self.events.write(
            "step", step=step, loss=loss, terms=terms, lr=lr, grad_norm=grad_norm, step_s=round(step_s, 4), **more
        )
        self.skipped.see(step, loss, grad_norm)
        if groups.counts and math.isfinite(loss) and math.isfinite(grad_norm):
            self._since_entry = groups if self._since_entry is None else self._since_entry + groups
        if self._board is not None and step % self.log_every == 0:
            named = {f"loss/{name}": value for name, value in terms.items()}
            since = {} if self._since_entry is None else self._since_entry.means()
            named |= {f"{by}/{name}": mean for by, means in since.items() for name, mean in means.items()}
            self._since_entry = None
            for name, value in {"loss": loss, **named, "lr": lr, **rates, "grad_norm": grad_norm}.items():
                self._board.add_scalar(name, value, step)
        self.progress.update(step, loss, lr)


def _tensors(result: StepResult) -> list[Tensor]:
    sums = result.groups.sums
    return [result.loss, result.grad_norm, *result.terms.values(), *([] if sums is None else [sums])]


@dataclass(frozen=True)
class _Recorded:
    """The results of a step.

    Attributes:
        step: number of the step.
        result: result of the step.
        readback: the figures of that.
        at: when it was recorded.
    """

    step: int
    result: StepResult
    readback: _Readback
    at: float


class _Readback:
    """A copy of some tensors to the host, begun behind the work that the device already has.

    Args:
        tensors: scalars and others, of any dtype; a model on several cards has some on each.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        values = torch.cat([tensor.detach().to(tensors[0]).flatten() for tensor in tensors])
        self._done: torch.cuda.Event | None = None
        self._host = values
        if values.is_cuda:
            self._host = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            with torch.cuda.device_of(values):
                self._done = torch.cuda.Event()
                self._done.record()

    def values(self) -> list[float]:
        """Their figures, one after another; waits until the copy has arrived."""
        if self._done is not None:
            self._done.synchronize()
        found: list[float] = self._host.tolist()
        return found
