"""How noise levels are drawn: named distributions of sigma over (0, 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.objectives.choices import BIASES, TIMESTEPS

# The training shift of FLUX, mu linear in the number of tokens: 0.5 at 256, 1.15 at 4096.
# Source: black-forest-labs/flux, get_lin_function and time_shift.
_SHIFT_POINTS = ((256, 0.5), (4096, 1.15))

NUM_LEVELS = 1000

# A distribution is a quantile function: it maps levels, uniform over (0, 1], [B], and the number of image tokens to
# sigma, [B], which increases with the level. A bias maps ranks to ranks, [B]: the position of a noise level among all
# levels, 0 for pure noise and 1 for the clean image. So a bias, or a range of noise levels, works in the same way for
# every distribution. This is ai-toolkit's rule, which picks from a sorted list of 1,000 noise levels.


def sigmoid(level: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal: middle noise levels most often (Esser et al. 2024, arXiv 2403.03206, with m = 0, s = 1)."""
    return torch.sigmoid(torch.special.ndtri(level))


def linear(level: Tensor, num_tokens: int) -> Tensor:
    """Uniform over (0, 1)."""
    return level


def shift(level: Tensor, num_tokens: int) -> Tensor:
    """Uniform, shifted to more noise for larger images: shift 1.878 at 512 x 512, 3.158 at 1024 x 1024."""
    return _shifted(level, num_tokens)


def logit_normal_shift(level: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal, shifted to more noise for larger images (Esser et al. 2024, section 5.3.2)."""
    return _shifted(sigmoid(level, num_tokens), num_tokens)


def _shifted(sigma: Tensor, num_tokens: int) -> Tensor:
    factor = flux_shift(num_tokens)
    return factor * sigma / (1 + (factor - 1) * sigma)


def flux_shift(num_tokens: int) -> float:
    """The shift e^mu for a number of image tokens (cells of 16 x 16 pixels)."""
    (low, mu_low), (high, mu_high) = _SHIFT_POINTS
    return math.exp(mu_low + (mu_high - mu_low) * (num_tokens - low) / (high - low))


def balanced(rank: Tensor) -> Tensor:
    """Every noise level as often as in its distribution."""
    return rank


def content(rank: Tensor) -> Tensor:
    """High noise levels more often, using a cubic function (Mou et al. 2023, arXiv 2302.08453, section 3.4)."""
    return rank**3


def style(rank: Tensor) -> Tensor:
    """Low noise levels more often: the mirror image of `content`."""
    return 1 - (1 - rank) ** 3


def draw_sigma(
    kind: str,
    uniform: Tensor,
    *,
    num_tokens: int,
    bias: str = "balanced",
    steps: tuple[int, int] = (0, NUM_LEVELS - 1),
) -> Tensor:
    """Compute the noise levels of a batch from uniform random numbers.

    Args:
        kind: name of the distribution, a key of `TIMESTEPS`.
        uniform: random numbers, uniform over [0, 1), [B], fp32.
        num_tokens: number of image tokens of one sample.
        bias: which noise levels to draw more often, a key of `BIASES`.
        steps: range to draw from: first and last index into 1,000 sorted noise levels, 0 being the noisiest.

    Returns:
        sigma, [B], fp32, strictly between 0 and 1.
    """
    first, last = steps
    even = 1 - uniform.double()  # fp32 cannot distinguish levels near 1, where `content` draws one in a hundred
    rank = first / NUM_LEVELS + BIASES[bias].load()(even) * (last - first) / (NUM_LEVELS - 1)
    sigma: Tensor = TIMESTEPS[kind].load()(1 - rank, num_tokens).float()
    # A draw can round to exactly 0 or 1, where there is only data or only noise and nothing can be learnt.
    return sigma.clamp(1e-5, 1 - 1e-5)
