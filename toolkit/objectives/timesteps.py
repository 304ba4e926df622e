"""How noise levels are drawn: named distributions of sigma over (0, 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# The training shift of FLUX, mu linear in the number of tokens: 0.5 at 256, 1.15 at 4096.
# Source: black-forest-labs/flux, get_lin_function and time_shift.
_SHIFT_POINTS = ((256, 0.5), (4096, 1.15))

# Standard normal and uniform draws per sample, [B] each, and the number of image tokens -> sigma [B].
Distribution = Callable[[Tensor, Tensor, int], Tensor]


def sigmoid(normal: Tensor, uniform: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal: most weight on middle noise levels (Esser et al. 2024, arXiv 2403.03206, with m = 0, s = 1)."""
    return torch.sigmoid(normal)


def linear(normal: Tensor, uniform: Tensor, num_tokens: int) -> Tensor:
    """Even over (0, 1)."""
    return uniform


def shift(normal: Tensor, uniform: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal, moved to more noise for larger pictures: shift 1.878 at 512 x 512, 3.158 at 1024 x 1024."""
    factor = flux_shift(num_tokens)
    sigma = torch.sigmoid(normal)
    return factor * sigma / (1 + (factor - 1) * sigma)


def flux_shift(num_tokens: int) -> float:
    """Shift e^mu for a number of image tokens (16-pixel cells)."""
    (low, mu_low), (high, mu_high) = _SHIFT_POINTS
    return math.exp(mu_low + (mu_high - mu_low) * (num_tokens - low) / (high - low))


@dataclass(frozen=True)
class TimestepType:
    """What a job's `timestep_type` stands for.

    Attributes:
        distribution: how noise levels are drawn.
        weighting: how much each counts in the loss, a key of `WEIGHTINGS`.
    """

    distribution: Distribution
    weighting: str = "even"


TIMESTEPS: dict[str, TimestepType] = {
    "sigmoid": TimestepType(sigmoid),
    "linear": TimestepType(linear),
    "shift": TimestepType(shift),
    "weighted": TimestepType(linear, weighting="high_noise"),
}


BIASES: dict[str, Callable[[Tensor], Tensor]] = {
    "balanced": lambda sigma: sigma,
    "content": lambda sigma: 1 - (1 - sigma) ** 3,
    "style": lambda sigma: sigma**3,
}


def draw_sigma(
    kind: str,
    normal: Tensor,
    uniform: Tensor,
    *,
    num_tokens: int,
    bias: str = "balanced",
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Noise levels of a batch.

    Args:
        kind: a key of `TIMESTEPS`.
        normal: N(0, 1), [B], fp32.
        uniform: even over [0, 1), [B], fp32.
        num_tokens: image tokens of one sample.
        bias: a key of `BIASES`: `content` draws more noise, `style` less, by a cubic, as in ai-toolkit.
        low, high: the range that sigma is squeezed into, within 0..1.

    Returns:
        sigma, [B], fp32, strictly between 0 and 1.
    """
    sigma = BIASES[bias](TIMESTEPS[kind].distribution(normal.float(), uniform.float(), num_tokens))
    # A draw may round to exactly 0 or 1, where one of data and noise is absent and nothing can be learnt.
    return (low + (high - low) * sigma).clamp(1e-5, 1 - 1e-5)


def sigma_range(first: int, last: int) -> tuple[float, float]:
    """Lowest and highest sigma of `min_denoising_steps` to `max_denoising_steps` (0 is pure noise, 999 the image)."""
    return 1 - (last + 1) / 1000, 1 - first / 1000
