"""Losses: errors between the predicted and the true velocity."""

from __future__ import annotations

from torch import Tensor

from toolkit.objectives.choices import LOSSES

PSEUDO_HUBER_C = 0.01

# A loss takes prediction and target [B, C, h, w] and returns the error of each element, in the same shape.


def sample_loss(kind: str, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean error of each sample, [B], fp32, for a prediction and target [B, C, h, w]; see `masked_mean`."""
    return masked_mean(LOSSES[kind].load()(prediction.float(), target.float()), mask)


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


def pseudo_huber(prediction: Tensor, target: Tensor) -> Tensor:
    """sqrt(e² + c²) - c with c = 0.01: squared near 0, absolute for large errors (Charbonnier et al. 1997)."""
    return ((prediction - target).square() + PSEUDO_HUBER_C**2).sqrt() - PSEUDO_HUBER_C
