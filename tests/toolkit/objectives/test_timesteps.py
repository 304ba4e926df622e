"""toolkit.objectives.timesteps"""

from typing import get_args

import pytest
import torch

from toolkit.config import TrainConfig
from toolkit.objectives.timesteps import BIASES, TIMESTEPS, draw_sigma, flux_shift, sigma_range
from toolkit.objectives.weightings import WEIGHTINGS
from toolkit.randomness import Draws

NUM = 20_000


def _draw(kind: str, *, num_tokens: int = 1024, **options: float | str) -> torch.Tensor:
    draws = Draws(1)
    normal, uniform = draws.normal((NUM,), "normal"), draws.uniform((NUM,), "uniform")
    return draw_sigma(kind, normal, uniform, num_tokens=num_tokens, **options)


def test_config_and_registry_name_the_same_distributions() -> None:
    assert set(get_args(TrainConfig.model_fields["timestep_type"].annotation)) == TIMESTEPS.keys()
    assert set(get_args(TrainConfig.model_fields["content_or_style"].annotation)) == BIASES.keys()


@pytest.mark.parametrize("kind", TIMESTEPS)
@pytest.mark.parametrize("bias", BIASES)
def test_every_sigma_is_strictly_between_0_and_1(kind: str, bias: str) -> None:
    sigma = _draw(kind, bias=bias)
    assert sigma.dtype == torch.float32
    assert sigma.min() > 0
    assert sigma.max() < 1


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_extreme_draws_stay_inside(kind: str) -> None:
    sigma = draw_sigma(kind, torch.tensor([-100.0, 100.0]), torch.tensor([0.0, 1.0]), num_tokens=4096)
    assert 0 < sigma.min() < sigma.max() < 1


def test_shift_is_flux_training_shift() -> None:
    assert flux_shift(32 * 32) == pytest.approx(1.878, abs=5e-4)
    assert flux_shift(64 * 64) == pytest.approx(3.158, abs=5e-4)


def test_shift_moves_the_median_by_its_factor() -> None:
    factor = flux_shift(4096)
    assert _draw("shift", num_tokens=4096).median() == pytest.approx(factor / (1 + factor), abs=0.01)


def test_sigmoid_does_not_depend_on_resolution() -> None:
    assert torch.equal(_draw("sigmoid", num_tokens=64), _draw("sigmoid", num_tokens=4096))


def test_linear_is_even() -> None:
    counts = torch.histc(_draw("linear"), bins=10, min=0, max=1)
    assert counts.min() > 0.9 * NUM / 10


def test_content_draws_more_noise_and_style_less() -> None:
    style, balanced, content = (_draw("linear", bias=bias).mean() for bias in ("style", "balanced", "content"))
    assert style < balanced < content


def test_denoising_steps_count_from_noise() -> None:
    assert sigma_range(0, 999) == pytest.approx((0.0, 1.0))
    low, high = sigma_range(0, 499)
    sigma = _draw("linear", low=low, high=high)
    assert sigma.min() >= 0.5
    assert sigma.max() < 1


@pytest.mark.parametrize("kind", TIMESTEPS)
def test_every_timestep_type_names_a_weighting(kind: str) -> None:
    assert TIMESTEPS[kind].weighting in WEIGHTINGS


def test_weighted_draws_evenly_and_leaves_the_rest_to_its_weighting() -> None:
    assert torch.equal(_draw("weighted"), _draw("linear"))
    assert TIMESTEPS["weighted"].weighting == "high_noise"
