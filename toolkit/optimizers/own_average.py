"""Optimizers that keep an average of the weights themselves: the model holds it while users' weights are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class HasOwnAverage(Protocol):
    """A schedule-free optimizer: gradients are taken at other weights than those that users get."""

    def train(self) -> None:
        """Let the model hold the weights that gradients are taken at."""
        ...

    def eval(self) -> None:
        """Let the model hold the weights that users get."""
        ...


def begin_training(optimizer: torch.optim.Optimizer) -> None:
    """Let the model hold the weights that gradients are taken at."""
    if isinstance(optimizer, HasOwnAverage):
        optimizer.train()


@contextmanager
def users_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within the `with` block, the model holds the weights that users get; then those of before, bit for bit.

    The optimizer computes one from the other, which rounds: so the weights of before are kept.
    """
    if not isinstance(optimizer, HasOwnAverage):
        yield
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    before = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
