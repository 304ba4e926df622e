"""toolkit.objectives.weightings"""

import pytest
import torch

from toolkit.objectives.weightings import WEIGHTINGS, even, high_noise


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_leaves_the_mean_of_the_loss_over_even_noise_levels(name: str) -> None:
    weight = WEIGHTINGS[name](torch.linspace(0, 1, 10_001))
    assert weight.mean() == pytest.approx(1.0, abs=1e-3)
    assert weight.min() > 0


def test_even_weighs_every_noise_level_alike() -> None:
    assert torch.equal(even(torch.rand(5)), torch.ones(5))


def test_high_noise_has_the_peak_and_end_of_the_table_it_stands_for() -> None:
    sigma = torch.linspace(0, 1, 10_001)
    weight = high_noise(sigma)
    assert weight.max() == pytest.approx(1.523, abs=5e-3)
    assert sigma[weight.argmax()] == pytest.approx(0.876, abs=0.01)
    assert weight[0] == pytest.approx(0.445)
