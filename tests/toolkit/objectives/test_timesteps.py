"""toolkit/objectives/timesteps.py"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.objectives.choices import BIASES, TIMESTEPS, WEIGHTINGS
from toolkit.objectives.timesteps import draw_sigma, flux_shift
from toolkit.randomness import Draws

NUM = 100_000


def _draw(kind: str, *, num_tokens: int = 1024, **options: Any) -> Tensor:
    return draw_sigma(kind, Draws(1).uniform((NUM,), "x"), num_tokens=num_tokens, **options)


def _by_the_rule_of_ai_toolkit(kind: str, *, bias: str, first: int, last: int, num_tokens: int) -> Tensor:
    """A place among sorted noise levels, mapped to a range of 1,000: its rule restated, for an endless list."""
    uniform = torch.rand(NUM, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    place = {"balanced": uniform, "content": uniform**3, "style": 1 - uniform**3}[bias]
    even = 1 - (first + place * 1000 * (last - first) / 999) / 1000
    factor = math.exp(0.5 + 0.65 * (num_tokens - 256) / (4096 - 256))
    levels = {"shift": factor * even / (1 + (factor - 1) * even), "sigmoid": torch.erfinv(2 * even - 1) * 2**0.5}
    sigma = levels.get(kind, even)
    return (sigma.sigmoid() if kind == "sigmoid" else sigma).float()


def _distance(one: Tensor, other: Tensor) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two shares of draws below a value."""
    values = torch.linspace(0, 1, 5001)
    below = [torch.searchsorted(draws.sort().values, values, right=True) / len(draws) for draws in (one, other)]
    return float((below[0] - below[1]).abs().max())


@pytest.mark.parametrize(("first", "last"), [(0, 999), (200, 999), (0, 600), (300, 500)])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("kind", ["sigmoid", "linear", "shift", "weighted"])
def test_job_files_of_ai_toolkit_get_its_distributions(kind: str, bias: str, first: int, last: int) -> None:
    ours = _draw(kind, num_tokens=4096, bias=bias, steps=(first, last))
    theirs = _by_the_rule_of_ai_toolkit(kind, bias=bias, first=first, last=last, num_tokens=4096)
    assert _distance(ours, theirs) <= 0.01


@pytest.mark.parametrize("kind", TIMESTEPS)
@pytest.mark.parametrize("bias", BIASES)
def test_every_sigma_is_strictly_between_0_and_1(kind: str, bias: str) -> None:
    sigma = _draw(kind, bias=bias)
    assert sigma.dtype == torch.float32
    assert sigma.min() > 0
    assert sigma.max() < 1


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_extreme_draws_stay_inside(kind: str) -> None:
    sigma = draw_sigma(kind, torch.tensor([0.0, 1.0]), num_tokens=4096)
    assert 0 < sigma.min() < sigma.max() < 1


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_every_distribution_rises_with_its_level(kind: str) -> None:
    sigma = draw_sigma(kind, torch.linspace(0.001, 0.999, 500), num_tokens=1024)
    assert bool((sigma.diff() > 0).all())


def test_shift_is_flux_training_shift() -> None:
    assert flux_shift(32 * 32) == pytest.approx(1.878, abs=5e-4)
    assert flux_shift(64 * 64) == pytest.approx(3.158, abs=5e-4)


@pytest.mark.parametrize(
    ("kind", "quantiles"), [("shift", (0.142, 0.759, 0.984)), ("logit_normal_shift", (0.378, 0.759, 0.942))]
)
def test_the_two_shifts_have_one_median_and_other_ends(kind: str, quantiles: tuple[float, ...]) -> None:
    found = _draw(kind, num_tokens=4096).quantile(torch.tensor([0.05, 0.5, 0.95]))
    assert found.tolist() == pytest.approx(quantiles, abs=0.005)


def test_sigmoid_does_not_depend_on_resolution() -> None:
    assert torch.equal(_draw("sigmoid", num_tokens=64), _draw("sigmoid", num_tokens=4096))


def test_content_draws_more_noise_and_style_less() -> None:
    style, balanced, content = (_draw("linear", bias=bias).mean() for bias in ("style", "balanced", "content"))
    assert style < balanced < content


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_every_timestep_type_names_a_weighting(kind: str) -> None:
    assert TIMESTEPS[kind].weighting in WEIGHTINGS


def test_weighted_draws_evenly_and_leaves_the_rest_to_its_weighting() -> None:
    assert torch.equal(_draw("weighted"), _draw("linear"))
    assert TIMESTEPS["weighted"].weighting == "high_noise"
