"""Running averages of the trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from toolkit.config.updates.average import AVERAGE, SNAPSHOTS, EmaConfig
from toolkit.optimizers.power_profile import exponent

Decay = Callable[[int], float]
"""The share of the old average that is kept, from the number of updates that are in it."""


class MovingAverage:
    """Keeps `decay * average + (1 - decay) * weights`, in fp32, next to the weights being trained.

    Attributes:
        average: the average of each weight.
        since: the step that the averaging began at.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: Decay) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.since = 0
        self.average = [parameter.detach().float().clone() for parameter in self.parameters]
        self._indices: dict[torch.device, list[int]] = {}
        for index, average in enumerate(self.average):
            self._indices.setdefault(average.device, []).append(index)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the current weights to the average, after an update; `step` counts the updates before it."""
        decay = self.decay(step - self.since)
        for indices in self._indices.values():  # one call for each card: weights can be on several
            current = [self.parameters[index].detach().float() for index in indices]
            torch._foreach_lerp_([self.average[index] for index in indices], current, 1 - decay)

    @torch.no_grad()
    def load(self, average: Sequence[Tensor], *, since: int) -> None:
        """Restore a saved average, given in the order of the parameters."""
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)
        self.since = since

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the `with` block, the model holds the average; afterwards the raw weights again, bit for bit."""
        raw = [parameter.detach().clone() for parameter in self.parameters]
        self._write(self.average)
        try:
            yield
        finally:
            self._write(raw)

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def build_averages(parameters: Sequence[nn.Parameter], config: EmaConfig | None) -> dict[str, MovingAverage]:
    """The averages that a job asks for, by the part of a checkpoint that each is kept in."""
    found: dict[str, MovingAverage] = {}
    if config is not None and config.use_ema:
        decay = partial(warmed if config.ema_warmup else constant, limit=config.ema_decay)
        found[AVERAGE] = MovingAverage(parameters, decay)
    if config is not None and config.power_ema:
        powers = {part: partial(power, gamma=exponent(width)) for part, width in SNAPSHOTS.items()}
        found |= {part: MovingAverage(parameters, decay) for part, decay in powers.items()}
    return found


def constant(num_updates: int, *, limit: float) -> float:
    """The same share at every step."""
    return limit


def warmed(num_updates: int, *, limit: float) -> float:
    """At most (1 + n) / (10 + n): as `num_updates` of TensorFlow's ExponentialMovingAverage has it."""
    return min(limit, (1 + num_updates) / (10 + num_updates))


def power(num_updates: int, *, gamma: float) -> float:
    """(1 - 1 / t) ** (gamma + 1) at the t-th update: step s counts as s ** gamma (arXiv 2312.02696, eq. 3)."""
    return float((1 - 1 / (num_updates + 1)) ** (gamma + 1))
