"""The interface of objectives, which turn a batch into named losses. Their cost is in their row of `OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor

from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.randomness import Draws


class Predict(Protocol):
    """The model as an objective sees it, which takes care of precision, dropout and the network's strength."""

    def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1.0) -> Tensor:
        """The model's prediction, [B, C, h, w].

        Args:
            noisy_latents: mix of latents and noise, [B, C, h, w].
            sigma: share of noise, [B], fp32, 0..1.
            condition: everything else that the prediction depends on.
            network: strength of the trained network; 0 is the model without it.

        At strength 0, and inside `torch.no_grad()`, it is a teacher pass: it has no gradient and no dropout, and does
        not affect the random draws of other passes.
        """
        ...

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """The target of the prediction, [B, C, h, w]: the velocity `noise - latents`, or what the model defines."""
        ...

    def sampling_sigmas(self, num_steps: int) -> Tensor:
        """The noise levels between the steps of the model's own sampler, [num_steps + 1], fp32, from 1 to 0."""
        ...


class Objective(Protocol):
    """What a training step minimises."""

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """The named terms of the loss, each [B], in one part or several; the sum of all is minimised.

        The backward pass of a part is made before the next part is asked for, so that only one forward pass through the
        model keeps its activations at a time. A term may have shares in several parts.

        Args:
            batch: samples of one size.
            predict: makes the model's predictions.
            draws: source of randomness; a draw should depend only on `batch.index` and its purpose.
        """
        ...
