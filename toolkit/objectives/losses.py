"""Losses: errors between the predicted and the true velocity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.choices import LOSSES

# A loss takes prediction and target [B, C, h, w] and returns the error of each element, in the same shape. Its settings
# are keyword arguments.


@dataclass(frozen=True)
class Distance:
    """How far a prediction is from its target.

    Attributes:
        kind: a key of `LOSSES`.
        params: settings of the loss.
        most: a sample whose distance is above this counts this much, and has no gradient; None: no limit.
    """

    kind: str = "mse"
    params: Mapping[str, Any] = field(default_factory=dict)
    most: float | None = None

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """The distance that a `train` section asks for."""
        return cls(train.loss_type, train.loss_params.model_dump(), train.max_loss)

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean error of each sample, [B], fp32, for a prediction and target [B, C, h, w]; see `masked_mean`."""
        error = LOSSES[self.kind].load()(prediction.float(), target.float(), **self.params)
        mean = masked_mean(error, mask)
        return mean if self.most is None else mean.clamp(max=self.most)


MSE = Distance()


def masked_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of errors [B, C, h, w] over the channels and the places that a mask [B, 1, h, w] shows, [B].

    Each place counts as much as its mask. The sum is divided by the sum of the mask, so that a small mask counts as
    much as a large one. A mask without any place gives 0.
    """
    if mask is None:
        return error.mean(dim=(1, 2, 3))
    return (error.mean(dim=1, keepdim=True) * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1e-6)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error."""
    return (prediction - target).square()


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute error."""
    return (prediction - target).abs()


def huber(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """e² / 2 up to delta, beyond it delta (|e| - delta / 2), a line that the parabola runs into (Huber 1964)."""
    error = (prediction - target).abs()
    within = error.clamp(max=delta)
    return within * (error - within / 2)


def smooth_l1(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber's loss divided by delta: absolute for large errors, whatever delta (Girshick 2015, arXiv 1504.08083)."""
    return huber(prediction, target, delta=delta) / delta


def pseudo_huber(prediction: Tensor, target: Tensor, *, c: float = 0.01) -> Tensor:
    """sqrt(e² + c²) - c: squared near 0, absolute for large errors (Charbonnier et al. 1997)."""
    return ((prediction - target).square() + c**2).sqrt() - c
