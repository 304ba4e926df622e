"""toolkit.optimizers.average"""

from functools import partial

import pytest
import torch

from toolkit.optimizers.average import MovingAverage, constant, power, warmed


def test_the_average_follows_its_formula() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    ema = MovingAverage([weight], partial(constant, limit=0.9))
    with torch.no_grad():
        weight.fill_(1.0)
    ema.update(0)
    ema.update(1)
    assert ema.average[0].tolist() == pytest.approx([0.19] * 3)


def test_raw_weights_come_back_bit_for_bit() -> None:
    weight = torch.nn.Parameter(torch.randn(5))
    before = weight.detach().clone()
    ema = MovingAverage([weight], partial(constant, limit=0.5))
    with torch.no_grad():
        weight.add_(1.0)
    changed = weight.detach().clone()
    with ema.swapped_in():
        assert torch.equal(weight, before)
    assert torch.equal(weight, changed)


def test_a_warm_up_grows_from_a_tenth_to_the_decay() -> None:
    shares = [warmed(n, limit=0.99) for n in range(2000)]
    assert shares[:3] == [1 / 10, 2 / 11, 3 / 12]
    assert shares == sorted(shares)
    assert shares[-1] == 0.99


def test_a_power_average_counts_from_the_step_that_it_began_at() -> None:
    weight = torch.nn.Parameter(torch.full((2,), 5.0))
    late, early = (MovingAverage([weight], partial(power, gamma=6.9)) for _ in range(2))
    late.load([weight.detach()], since=40)
    for step in range(3):
        late.update(40 + step)
        early.update(step)
        assert torch.equal(late.average[0], early.average[0])
        weight.data += 1
