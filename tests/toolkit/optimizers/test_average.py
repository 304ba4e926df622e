"""toolkit.optimizers.average"""

import pytest
import torch

from toolkit.optimizers.average import ExponentialMovingAverage


def test_the_average_follows_its_formula() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    ema = ExponentialMovingAverage([weight], decay=0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    ema.update()
    ema.update()
    assert ema.average[0].tolist() == pytest.approx([0.19] * 3)


def test_raw_weights_come_back_bit_for_bit() -> None:
    weight = torch.nn.Parameter(torch.randn(5))
    before = weight.detach().clone()
    ema = ExponentialMovingAverage([weight], decay=0.5)
    with torch.no_grad():
        weight.add_(1.0)
    changed = weight.detach().clone()
    with ema.swapped_in():
        assert torch.equal(weight, before)
    assert torch.equal(weight, changed)
