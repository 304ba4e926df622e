"""How noise levels are drawn: named distributions of sigma over (0, 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from toolkit.objectives.choices import BIASES, TIMESTEPS

# The training shift of FLUX, mu linear in the number of tokens: 0.5 at 256, 1.15 at 4096.
# Source: black-forest-labs/flux, get_lin_function and time_shift.
_SHIFT_POINTS = ((256, 0.5), (4096, 1.15))

NUM_LEVELS = 1000
_GRID = 4097  # points at which a distribution without a formula for its quantiles is computed
_EVEN_SPAN = 0.999  # ai-toolkit's levels go from 1 to 1 / 1000

# A distribution is a quantile function: it maps levels, uniform over (0, 1], [B], and the number of image tokens to
# sigma, [B], which increases with the level; its settings are keyword arguments. A bias maps ranks to ranks, [B]: the
# position of a noise level among all levels, 0 for pure noise and 1 for the clean image. So a bias, or a range of noise
# levels, works in the same way for every distribution. This is ai-toolkit's rule, which picks from a sorted list of
# 1,000 noise levels.


def sigmoid(level: Tensor, num_tokens: int, *, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Logit-normal with mean m and standard deviation s (Esser et al. 2024, arXiv 2403.03206)."""
    return torch.sigmoid(mean + std * torch.special.ndtri(level))


def linear(level: Tensor, num_tokens: int) -> Tensor:
    """Uniform over (0, 1)."""
    return level


def shift(level: Tensor, num_tokens: int, *, shift: float | None = None) -> Tensor:
    """Uniform, shifted to more noise: 1.878 at 512 x 512 and 3.158 at 1024 x 1024, or as given."""
    return shifted(level, flux_shift(num_tokens) if shift is None else shift)


def logit_normal_shift(
    level: Tensor, num_tokens: int, *, mean: float = 0.0, std: float = 1.0, shift: float | None = None
) -> Tensor:
    """Logit-normal, shifted to more noise (Esser et al. 2024, section 5.3.2)."""
    drawn = sigmoid(level, num_tokens, mean=mean, std=std)
    return shifted(drawn, flux_shift(num_tokens) if shift is None else shift)


def beta(level: Tensor, num_tokens: int, *, alpha: float = 2.0, beta: float = 2.0) -> Tensor:
    """The beta distribution, by its density over theta with sigma = sin(theta) squared, which is finite from 1/2 on."""
    theta = torch.linspace(0, math.pi / 2, _GRID, dtype=torch.float64)
    density = theta.sin() ** (2 * alpha - 1) * theta.cos().clamp(min=0) ** (2 * beta - 1)
    below = torch.cumulative_trapezoid(density, theta)
    below = torch.cat([below.new_zeros(1), below]) / below[-1]
    return _inverse(below, theta, level).sin() ** 2


def lognorm_blend(level: Tensor, num_tokens: int) -> Tensor:
    """Three quarters log-normal, towards high noise, one quarter uniform.

    As in ai-toolkit, sigma is 1 - L / M with ln L normal, standard deviation 1/3, and M the largest of 750 such draws;
    here M is the median of that maximum, always the same.
    """
    sigma = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    largest = torch.special.ndtri(torch.tensor(0.5 ** (1 / 750), dtype=torch.float64))  # ln M / 0.333
    below = torch.special.ndtr(-(largest + (1 - sigma).log() / 0.333))
    below = 0.75 * (below - below[0]) / (1 - below[0]) + 0.25 * sigma
    return _inverse(below, sigma, level)


def one_step(level: Tensor, num_tokens: int) -> Tensor:
    """Pure noise, where a model that draws in one step begins."""
    return torch.ones_like(level)


def two_step(level: Tensor, num_tokens: int) -> Tensor:
    """1 and 0.501, which is ai-toolkit's rounding of a half."""
    return _one_of(level, (0.501, 1.0))


def four_step(level: Tensor, num_tokens: int) -> Tensor:
    """1, 0.75, 0.5 and 0.25."""
    return _one_of(level, [step / 4 for step in range(1, 5)])


def eight_step(level: Tensor, num_tokens: int) -> Tensor:
    """1 and seven levels below, down to 0.125."""
    return _one_of(level, [step / 8 for step in range(1, 9)])


def next_sample(level: Tensor, num_tokens: int, *, num_steps: int = 8) -> Tensor:
    """The levels of a sampler with so many steps, shifted by the number of tokens, but for its first and its last."""
    even = [1 - _EVEN_SPAN * index / (num_steps - 1) for index in range(num_steps - 2, 0, -1)]
    return shifted(_one_of(level, even), flux_shift(num_tokens))


def level_before(sigma: Tensor, num_tokens: int, *, num_steps: int) -> Tensor:
    """The level of the sampler of `next_sample` that comes before sigma, [B]."""
    factor = flux_shift(num_tokens)
    even = shifted(sigma.double(), 1 / factor) + _EVEN_SPAN / (num_steps - 1)
    return shifted(even.clamp(max=1), factor).to(sigma)


def shifted(sigma: Tensor, factor: float) -> Tensor:
    """Move noise levels up (factor > 1) or down; 1 / factor undoes it. 0 and 1 stay."""
    return factor * sigma / (1 + (factor - 1) * sigma)


def _one_of(level: Tensor, values: Sequence[float]) -> Tensor:
    """Values in rising order, each for an equal share of the levels."""
    place = (level * len(values)).ceil().long().clamp(1, len(values)) - 1
    return level.new_tensor(values)[place]


def _inverse(below: Tensor, values: Tensor, level: Tensor) -> Tensor:
    """The value of which a share `level` is below, from those shares, which rise from 0 to 1, at some values."""
    right = torch.searchsorted(below, level.contiguous()).clamp(1, len(below) - 1)
    low, high = below[right - 1], below[right]
    along = (level - low) / (high - low).clamp(min=1e-300)
    return values[right - 1] + along.clamp(0, 1) * (values[right] - values[right - 1])


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
    params: Mapping[str, Any] = MappingProxyType({}),
) -> Tensor:
    """Compute the noise levels of a batch from uniform random numbers.

    Args:
        kind: name of the distribution, a key of `TIMESTEPS`.
        uniform: random numbers, uniform over [0, 1), [B], fp32.
        num_tokens: number of image tokens of one sample.
        bias: which noise levels to draw more often, a key of `BIASES`.
        steps: range to draw from: first and last index into 1,000 sorted noise levels, 0 being the noisiest.
        params: settings of the distribution.

    Bias and range do not apply to a distribution of a few levels.

    Returns:
        sigma, [B], fp32, strictly between 0 and 1.
    """
    row = TIMESTEPS[kind]
    if row.is_discrete:
        bias, steps = "balanced", (0, NUM_LEVELS - 1)
    first, last = steps
    even = 1 - uniform.double()  # fp32 cannot distinguish levels near 1, where `content` draws one in a hundred
    rank = first / NUM_LEVELS + BIASES[bias].load()(even) * (last - first) / (NUM_LEVELS - 1)
    sigma: Tensor = row.load()(1 - rank, num_tokens, **params).float()
    # A draw can round to exactly 0 or 1, where there is only data or only noise and nothing can be learnt.
    return sigma.clamp(1e-5, 1 - 1e-5)
