"""toolkit.optimizers.power_profile"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from toolkit.optimizers.average import MovingAverage, power
from toolkit.optimizers.power_profile import NARROWEST, WIDEST, Profile, exponent, fit

STORED = (0.05, 0.1)


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.1, 6.94), (0.25, 0.72)])
def test_widths_have_the_exponents_of_the_paper(width: float, gamma: float) -> None:
    """arXiv 2312.02696, section 3.1 names the first two."""
    assert exponent(width) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("width", [NARROWEST, 0.05, 0.1, WIDEST])
def test_shares_are_those_of_the_running_average_and_as_wide_as_said(width: float) -> None:
    """Each step in turn is the only one whose weight is 1."""
    num_steps = 400
    weights = torch.nn.Parameter(torch.zeros(num_steps))
    average = MovingAverage([weights], partial(power, gamma=exponent(width)))
    for step in range(num_steps):
        weights.data.zero_()[step] = 1
        average.update(step)
    shares = Profile(width, num_steps).shares()
    assert torch.allclose(average.average[0].double(), shares, atol=1e-6)
    steps = torch.arange(1, num_steps + 1, dtype=torch.float64)
    mean = (shares * steps).sum()
    spread = (shares * (steps - mean) ** 2).sum().sqrt()
    assert float(spread) / num_steps == pytest.approx(width, rel=0.05 if width > 0.02 else 0.2)


def test_what_is_stored_comes_back_and_what_is_not_is_near() -> None:
    stored = [Profile(width, step) for step in (250, 500, 750, 1000) for width in STORED]
    for one in stored[-2:]:
        assert fit(stored, Profile(one.width, 1000)).error < 1e-9
    errors = {width: fit(stored, Profile(width, 1000)).error for width in (0.04, 0.07, 0.15, WIDEST, NARROWEST)}
    assert errors == pytest.approx({0.04: 0.058, 0.07: 0.035, 0.15: 0.102, 0.25: 0.39, 0.01: 0.59}, abs=0.01)
    assert fit(stored[-2:], Profile(0.15, 1000)).error > errors[0.15]


@pytest.mark.parametrize("since", [0, 30])
def test_the_combination_of_stored_averages_is_the_average_of_that_width(since: int) -> None:
    """A random walk of weights, whose average of width 0.07 is never stored."""
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(50))
    averages = {width: MovingAverage([weights], partial(power, gamma=exponent(width))) for width in (*STORED, 0.07)}
    for average in averages.values():
        average.load([weights.detach()], since=since)
    stored, values = [], []
    for step in range(since, since + 120):
        weights.data += 0.1 * torch.randn(50) + 0.02
        for average in averages.values():
            average.update(step)
        if (step + 1 - since) % 30 == 0:
            stored += [Profile(width, step + 1, since) for width in STORED]
            values += [averages[width].average[0].clone() for width in STORED]
    found = fit(stored, Profile(0.07, since + 120, since))
    assert sum(found.factors) == pytest.approx(1)
    made = sum(factor * value for factor, value in zip(found.factors, values, strict=True))
    wanted = averages[0.07].average[0]
    assert (made - wanted).norm() < 0.03 * (weights.detach() - wanted).norm()
