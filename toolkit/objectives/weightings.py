"""How much each noise level counts in the loss: named functions of sigma."""

from __future__ import annotations

import torch
from torch import Tensor

# A weighting maps sigma [B] to the weight of each sample's loss, [B], with mean 1 over uniform sigma.

# Least-squares polynomial in sigma, fitted to the 1,000 weights that ai-toolkit measured on one model for `weighted`:
# root mean square error 0.009, mean 1.
_COEFFICIENTS = (0.3863, 5.7877, -34.2781, 79.1382, -28.4817, -142.7987, 207.6945, -86.5075)


def even(sigma: Tensor) -> Tensor:
    """Weight 1 for every noise level."""
    return torch.ones_like(sigma)


def high_noise(sigma: Tensor) -> Tensor:
    """Small at low noise, largest around sigma 0.87, smaller again at pure noise: a polynomial (Horner's rule)."""
    weight = torch.zeros_like(sigma)
    for coefficient in reversed(_COEFFICIENTS):
        weight = weight * sigma + coefficient
    return weight
