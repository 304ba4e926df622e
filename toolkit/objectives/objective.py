"""What an objective is: it turns a batch into named losses. What that costs stands in its row of `OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.randomness import Draws


class Predict(Protocol):
    """The model as an objective sees it: precision, dropout and the strength of what is trained are taken care of."""

    def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1.0) -> Tensor:
        """The model's prediction, [B, C, h, w].

        Args:
            noisy_latents: [B, C, h, w].
            sigma: share of noise, [B], fp32, 0..1.
            condition: everything else that the prediction depends on.
            network: strength of the network that is trained; 0 is the model without it.

        At strength 0, and inside `torch.no_grad()`, the pass is a teacher's: it has no gradient and no dropout, and the
        other passes are what they would be without it.
        """
        ...

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """What the prediction is compared with, [B, C, h, w]: the velocity `noise - latents`, or the model's own."""
        ...


class Objective(Protocol):
    """What a training step minimises."""

    def loss(self, batch: Batch, predict: Predict, draws: Draws) -> Mapping[str, Tensor]:
        """The terms of the loss by name, each [B]; their sum is minimised.

        Args:
            batch: samples of one size.
            predict: the model.
            draws: source of randomness; a draw depends on `batch.index` and its purpose alone.
        """
        ...
