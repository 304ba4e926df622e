"""How much each noise level counts in the loss: named functions of sigma."""

from __future__ import annotations

import torch
from torch import Tensor

# A weighting takes sigma [B] and gives the weight of each sample's loss, [B], mean 1 over even sigma.

# Least-squares polynomial in sigma through the 1,000 weights that ai-toolkit measured on one model for `weighted`:
# root mean square error 0.009, mean 1.
_COEFFICIENTS = (0.3863, 5.7877, -34.2781, 79.1382, -28.4817, -142.7987, 207.6945, -86.5075)


def even(sigma: Tensor) -> Tensor:
    """1 for every noise level."""
    return torch.ones_like(sigma)


def high_noise(sigma: Tensor) -> Tensor:
    """Little at low noise, most around sigma 0.87, less again at pure noise: by a polynomial (Horner's rule)."""
    weight = torch.zeros_like(sigma)
    for coefficient in reversed(_COEFFICIENTS):
        weight = weight * sigma + coefficient
    return weight
