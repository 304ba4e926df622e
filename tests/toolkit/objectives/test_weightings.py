"""toolkit/objectives/noise/weightings.py"""

import pytest
import torch

from toolkit.objectives.choices import WEIGHTINGS
from toolkit.objectives.noise.weightings import even, high_noise, min_snr, stepped


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_leaves_the_mean_of_the_loss_over_even_noise_levels(name: str) -> None:
    weight = WEIGHTINGS[name].load()(torch.linspace(0, 1, 10_001))
    assert weight.mean() == pytest.approx(0.476 if name == "stepped" else 1.0, abs=2e-3)
    assert weight[1:-1].min() > 0


def test_even_weighs_every_noise_level_alike() -> None:
    assert torch.equal(even(torch.rand(5)), torch.ones(5))


@pytest.mark.parametrize(
    ("sigma", "weight"), [(1.0, 0.906), (0.99, 1.043), (0.95, 1.375), (0.876, 1.523), (0.5, 0.925), (0.1, 0.716)]
)
def test_high_noise_follows_the_table_it_stands_for(sigma: float, weight: float) -> None:
    assert high_noise(torch.tensor(sigma)) == pytest.approx(weight, abs=0.04 if sigma > 0.98 else 0.02)


def test_min_snr_weighs_the_error_of_the_image_up_to_a_ratio_of_5() -> None:
    sigma = torch.linspace(0.01, 0.99, 99)
    ratio = ((1 - sigma) / sigma).square()
    expected = ratio.clamp(max=5) * sigma.square()  # the image's error is sigma times the velocity's
    assert torch.allclose(min_snr(sigma) / min_snr(sigma)[50], expected / expected[50], rtol=1e-4)


def test_stepped_is_the_error_of_the_image_after_a_step_of_a_twentieth() -> None:
    """ai-toolkit's computation, restated: a step with the prediction, then the true noise is removed."""
    latents, noise, error = (torch.randn(5, 4, generator=torch.Generator().manual_seed(n)) for n in range(3))
    sigma = torch.tensor([1.0, 0.8, 0.3, 0.05, 0.02]).view(-1, 1)
    velocity = noise - latents + error
    reached = (sigma - 0.05).clamp(min=0)
    step = (1 - sigma) * latents + sigma * noise + (reached - sigma) * velocity
    image = (step - reached * noise) / (1 - reached)
    theirs = 10 * (image - latents).square()
    ours = error.square() * stepped(sigma.flatten()).view(-1, 1)
    assert torch.allclose(ours, theirs, rtol=1e-2, atol=1e-4)
