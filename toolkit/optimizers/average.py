"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps `decay * average + (1 - decay) * weights`, in fp32, next to the weights being trained."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.average = [parameter.detach().float().clone() for parameter in self.parameters]
        self._places: dict[torch.device, list[int]] = {}
        for index, average in enumerate(self.average):
            self._places.setdefault(average.device, []).append(index)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average, after an update."""
        for indices in self._places.values():  # one call for each card: weights can be on several
            current = [self.parameters[index].detach().float() for index in indices]
            torch._foreach_lerp_([self.average[index] for index in indices], current, 1 - self.decay)

    @torch.no_grad()
    def load(self, average: Sequence[Tensor]) -> None:
        """Restore a saved average, given in the order of the parameters."""
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)

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
