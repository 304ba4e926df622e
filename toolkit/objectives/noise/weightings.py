"""How much each noise level counts in the loss: named functions of sigma."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A weighting maps sigma [B] to the weight of each sample's loss, [B], with mean 1 over uniform sigma but for
# `stepped`.

# Least-squares polynomial in sigma, fitted to the 1,000 weights that ai-toolkit measured on one model for `weighted`:
# root mean square error 0.009, mean 1.
_COEFFICIENTS = (0.3863, 5.7877, -34.2781, 79.1382, -28.4817, -142.7987, 207.6945, -86.5075)

_GAMMA = 5.0  # Hang et al.'s
_TURN = 1 / (1 + _GAMMA**0.5)  # sigma at which the signal-to-noise ratio is gamma
_MEAN_MIN_SNR = (_GAMMA * _TURN**3 + (1 - _TURN) ** 3) / 3


def even(sigma: Tensor) -> Tensor:
    """Weight 1 for every noise level."""
    return torch.ones_like(sigma)


def high_noise(sigma: Tensor) -> Tensor:
    """Small at low noise, largest around sigma 0.87, smaller again at pure noise: a polynomial (Horner's rule)."""
    weight = torch.zeros_like(sigma)
    for coefficient in reversed(_COEFFICIENTS):
        weight = weight * sigma + coefficient
    return weight


def min_snr(sigma: Tensor) -> Tensor:
    """min(SNR, 5) times sigma²: Min-SNR for the image, of which an error is sigma times one of the velocity.

    SNR = (1 - sigma)² / sigma². Source: Hang et al. 2023 (arXiv 2303.09556), for the path of rectified flow.
    """
    return torch.minimum((1 - sigma).square(), _GAMMA * sigma.square()) / _MEAN_MIN_SNR


def cosmap(sigma: Tensor) -> Tensor:
    """2 / (pi (1 - 2 sigma + 2 sigma²)) (Esser et al. 2024, arXiv 2403.03206, section 3.1)."""
    return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma.square()))


def stepped(sigma: Tensor) -> Tensor:
    """10 ((sigma - s) / (1 - s))² with s = sigma - 0.05, at least 0; its mean over uniform sigma is 0.476.

    With the squared error of the velocity, this is that of the image which follows from a step down to s: the error e
    of the velocity moves it by (sigma - s) e, and removing the true noise divides by 1 - s.

    Source: ai-toolkit's `loss_type: stepped`, with its factor.
    """
    reached = (sigma - 0.05).clamp(min=0)
    return 10 * ((sigma - reached) / (1 - reached)).square()
