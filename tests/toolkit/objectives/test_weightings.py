"""toolkit/objectives/weightings.py"""

import pytest
import torch

from toolkit.objectives.choices import WEIGHTINGS
from toolkit.objectives.weightings import even, high_noise


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_leaves_the_mean_of_the_loss_over_even_noise_levels(name: str) -> None:
    weight = WEIGHTINGS[name].load()(torch.linspace(0, 1, 10_001))
    assert weight.mean() == pytest.approx(1.0, abs=2e-3)
    assert weight.min() > 0


def test_even_weighs_every_noise_level_alike() -> None:
    assert torch.equal(even(torch.rand(5)), torch.ones(5))


@pytest.mark.parametrize(
    ("sigma", "weight"), [(1.0, 0.906), (0.99, 1.043), (0.95, 1.375), (0.876, 1.523), (0.5, 0.925), (0.1, 0.716)]
)
def test_high_noise_follows_the_table_it_stands_for(sigma: float, weight: float) -> None:
    assert high_noise(torch.tensor(sigma)) == pytest.approx(weight, abs=0.04 if sigma > 0.98 else 0.02)
