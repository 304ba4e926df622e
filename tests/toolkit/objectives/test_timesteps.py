"""toolkit/objectives/noise/timesteps.py"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.objectives.choices import BIASES, TIMESTEPS, WEIGHTINGS
from toolkit.objectives.noise.timesteps import draw_sigma, flux_shift, level_before
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
    assert 0 < sigma.min() <= sigma.max() < 1


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_every_distribution_rises_with_its_level(kind: str) -> None:
    step = draw_sigma(kind, torch.linspace(0.001, 0.999, 500), num_tokens=1024).diff()
    assert bool(((step >= 0) if TIMESTEPS[kind].is_discrete else (step > 0)).all())


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


def _theirs(kind: str, *, num_lists: int = 40) -> Tensor:
    """Draws by ai-toolkit's rule, restated: a place in a list of 1,000 levels that is made anew for each batch."""
    draw = torch.Generator().manual_seed(2)
    levels = []
    for _ in range(num_lists):
        drawn = (0.333 * torch.randn(750, generator=draw)).exp()
        even = torch.linspace(1, 0.001, 250)
        levels.append(torch.cat([1 - drawn / drawn.max(), even]).sort(descending=True).values[:-1])
    return torch.cat(levels)


def test_lognorm_blend_is_ai_toolkits_mixture() -> None:
    assert _distance(_draw("lognorm_blend"), _theirs("lognorm_blend")) <= 0.04  # its maximum differs from list to list


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("one_step", [1]),
        ("two_step", [0.501, 1]),
        ("four_step", [0.25, 0.5, 0.75, 1]),
        ("eight_step", [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]),
    ],
)
@pytest.mark.parametrize("bias", BIASES)
def test_a_few_levels_are_drawn_equally_often_whatever_the_bias(kind: str, levels: list[float], bias: str) -> None:
    found, counts = _draw(kind, bias=bias, steps=(200, 300)).unique(return_counts=True)
    assert found.tolist() == pytest.approx(levels, abs=2e-5)
    assert (counts / NUM).tolist() == pytest.approx([1 / len(levels)] * len(levels), abs=0.01)


def test_next_sample_draws_the_inner_levels_of_a_shifted_sampler() -> None:
    even = torch.linspace(1, 0.001, 8)
    factor = flux_shift(1024)
    sampler = factor * even / (1 + (factor - 1) * even)
    found = _draw("next_sample", params={"num_steps": 8}).unique()
    assert found.tolist() == pytest.approx(sampler[1:-1].flip(0).tolist(), abs=1e-5)
    before = level_before(found, 1024, num_steps=8)
    assert before.tolist() == pytest.approx(sampler[:-2].flip(0).tolist(), abs=1e-5)


def test_logit_normal_has_the_mean_and_spread_that_are_asked_for() -> None:
    logit = _draw("sigmoid", params={"mean": 0.8, "std": 0.5}).logit()
    assert (float(logit.mean()), float(logit.std())) == pytest.approx((0.8, 0.5), abs=0.01)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 2.0), (0.5, 0.5), (1.0, 3.0), (8.0, 1.5), (1.0, 1.0)])
def test_beta_is_the_beta_distribution(alpha: float, beta: float) -> None:
    torch.manual_seed(0)
    expected = torch.distributions.Beta(alpha, beta).sample((NUM,))
    assert _distance(_draw("beta", params={"alpha": alpha, "beta": beta}), expected) <= 0.01


def test_a_fixed_shift_does_not_depend_on_the_image() -> None:
    for kind in ("shift", "logit_normal_shift"):
        small, large = (_draw(kind, num_tokens=count, params={"shift": 3.0}) for count in (64, 4096))
        assert torch.equal(small, large)
        assert float(small.median()) == pytest.approx(0.75, abs=0.01)
