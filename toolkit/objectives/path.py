"""The path from data to noise along which the model learns the velocity."""

from __future__ import annotations

from torch import Tensor


def mix(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """A point on the straight path from data to noise.

    Args:
        latents: clean latents, [B, C, h, w].
        noise: standard normal, [B, C, h, w].
        sigma: share of noise per sample, [B], fp32, 0 (clean) to 1 (noise).

    Returns:
        (1 - sigma) * latents + sigma * noise, [B, C, h, w].

    Source: linear path of rectified flow, Liu et al. 2022 (arXiv 2209.03003), with noise as the end point.
    """
    sigma = sigma.view(-1, 1, 1, 1)
    return (1 - sigma) * latents + sigma * noise
