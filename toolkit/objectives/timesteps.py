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

# A distribution is a quantile function: of levels, even over (0, 1], [B], and the number of image tokens, it gives
# sigma, [B], rising with the level. A bias takes ranks and gives ranks, [B]: the place of a noise level among all, 0
# for pure noise and 1 for the image. So a bias, or a range of noise levels, says how often levels are drawn, for every
# distribution in the same way. That is ai-toolkit's rule, which picks from a sorted list of 1,000 noise levels.


def sigmoid(level: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal: most weight on middle noise levels (Esser et al. 2024, arXiv 2403.03206, with m = 0, s = 1)."""
    return torch.sigmoid(torch.special.ndtri(level))


def linear(level: Tensor, num_tokens: int) -> Tensor:
    """Even over (0, 1)."""
    return level


def shift(level: Tensor, num_tokens: int) -> Tensor:
    """Even, moved to more noise for larger pictures: shift 1.878 at 512 x 512, 3.158 at 1024 x 1024."""
    return _shifted(level, num_tokens)


def logit_normal_shift(level: Tensor, num_tokens: int) -> Tensor:
    """Logit-normal, moved to more noise for larger pictures (Esser et al. 2024, section 5.3.2)."""
    return _shifted(sigmoid(level, num_tokens), num_tokens)


def _shifted(sigma: Tensor, num_tokens: int) -> Tensor:
    factor = flux_shift(num_tokens)
    return factor * sigma / (1 + (factor - 1) * sigma)


def flux_shift(num_tokens: int) -> float:
    """Shift e^mu for a number of image tokens (16-pixel cells)."""
    (low, mu_low), (high, mu_high) = _SHIFT_POINTS
    return math.exp(mu_low + (mu_high - mu_low) * (num_tokens - low) / (high - low))


def balanced(rank: Tensor) -> Tensor:
    """Every noise level as often as its distribution says."""
    return rank


def content(rank: Tensor) -> Tensor:
    """High noise levels more often, by a cubic (Mou et al. 2023, arXiv 2302.08453, section 3.4)."""
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
    """Noise levels of a batch.

    Args:
        kind: a key of `TIMESTEPS`.
        uniform: even over [0, 1), [B], fp32.
        num_tokens: image tokens of one sample.
        bias: a key of `BIASES`.
        steps: first and last of 1,000 sorted noise levels that are drawn, 0 the noisiest; the others are cut off.

    Returns:
        sigma, [B], fp32, strictly between 0 and 1.
    """
    first, last = steps
    even = 1 - uniform.double()  # fp32 cannot tell levels near 1 apart, where `content` draws one of a hundred
    rank = first / NUM_LEVELS + BIASES[bias].load()(even) * (last - first) / (NUM_LEVELS - 1)
    sigma: Tensor = TIMESTEPS[kind].load()(1 - rank, num_tokens).float()
    # A draw may round to exactly 0 or 1, where one of data and noise is absent and nothing can be learnt.
    return sigma.clamp(1e-5, 1 - 1e-5)
