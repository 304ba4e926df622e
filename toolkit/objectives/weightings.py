"""How much each noise level counts in the loss: named functions of sigma."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Sigma [B] -> weight of each sample's loss, [B], mean 1 over even sigma.
Weighting = Callable[[Tensor], Tensor]

# Cubic with the value at 0, the peak's place and height, and the mean of ai-toolkit's table for `weighted`.
_COEFFICIENTS = (0.445, -0.740813, 5.905716, -4.172661)


def even(sigma: Tensor) -> Tensor:
    """1 for every noise level."""
    return torch.ones_like(sigma)


def high_noise(sigma: Tensor) -> Tensor:
    """Little at low noise, most at sigma 0.88.

    ai-toolkit reads this weight from a table measured on one model; this cubic has the same ends, peak and mean.
    """
    a, b, c, d = _COEFFICIENTS
    return a + sigma * (b + sigma * (c + sigma * d))


WEIGHTINGS: dict[str, Weighting] = {"even": even, "high_noise": high_noise}
