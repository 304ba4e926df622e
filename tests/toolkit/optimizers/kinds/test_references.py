"""Our own kinds against those of libraries, step by step, and against torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import nn

from toolkit.optimizers.kinds.ademamix8bit import AdEMAMix8bit
from toolkit.optimizers.kinds.automagic import Automagic
from toolkit.optimizers.kinds.lion import Lion, Lion8bit
from toolkit.optimizers.kinds.muon import Muon
from toolkit.optimizers.kinds.prodigy import Prodigy, Prodigy8bit
from toolkit.optimizers.trial import Trial

PAIRS: dict[str, tuple[Any, Any, float, float]] = {
    "lion": (
        lambda weights: Lion(weights, lr=1e-3, weight_decay=0.1),
        lambda weights: pytorch_optimizer.Lion(weights, lr=1e-3, weight_decay=0.1, weight_decouple=True),
        1e-3,
        1e-5,
    ),
    "prodigy": (
        lambda weights: Prodigy(weights, lr=1.0, weight_decay=0.1),
        lambda weights: pytorch_optimizer.Prodigy(weights, lr=1.0, betas=(0.9, 0.999), weight_decay=0.1),
        1.0,
        1e-3,
    ),
    "ademamix": (
        lambda weights: AdEMAMix8bit(weights, lr=1e-3, weight_decay=0.0),
        lambda weights: pytorch_optimizer.AdEMAMix(weights, lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999, 0.9999)),
        1e-3,
        0.1,  # of what eight bits keep
    ),
}


def _change(build: Callable[[list[nn.Parameter]], torch.optim.Optimizer], lr: float, num_steps: int) -> torch.Tensor:
    trial = Trial(build, lr)
    weights = trial.weights()
    before = torch.cat([weight.detach().flatten().clone() for weight in weights])
    trial.steps(weights, trial.build(weights), num_steps)
    return torch.cat([weight.detach().flatten() for weight in weights]) - before


@pytest.mark.parametrize("name", PAIRS)
def test_ours_goes_where_the_librarys_goes(name: str) -> None:
    ours, theirs, lr, tolerance = PAIRS[name]
    one, other = _change(ours, lr, 30), _change(theirs, lr, 30)
    assert (one - other).norm() < tolerance * other.norm()


@pytest.mark.parametrize(("coarse", "fine", "lr"), [(Lion8bit, Lion, 1e-3), (Prodigy8bit, Prodigy, 1.0)])
def test_fewer_bits_learn_about_the_same(coarse: Any, fine: Any, lr: float) -> None:
    _, one = Trial(lambda weights: coarse(weights, lr=lr), lr).learned(100)
    before, other = Trial(lambda weights: fine(weights, lr=lr), lr).learned(100)
    assert one < other + 0.1 * (before - other)


def test_without_decouple_prodigy_sees_the_decay_as_part_of_the_gradient() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (nn.Parameter(torch.arange(6.0)) for _ in range(2))
    coupled, plain = Prodigy([one], lr=1.0, weight_decay=0.1, decouple=False), Prodigy([other], lr=1.0)
    for _ in range(5):
        one.grad = torch.randn(6, generator=draw)
        other.grad = one.grad + 0.1 * other.detach()
        coupled.step()
        plain.step()
        assert torch.equal(one, other)
    assert not torch.equal(one, torch.arange(6.0))


def test_muon_steps_as_torchs() -> None:
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw) for shape in ((8, 40), (48, 8))]
    ours, theirs = ([nn.Parameter(one.clone()) for one in start] for _ in range(2))
    mine = Muon(ours, lr=1e-3, weight_decay=0.1)
    torchs = torch.optim.Muon(theirs, lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        mine.step()
        torchs.step()
    for one, other, first in zip(ours, theirs, start, strict=True):
        assert (one - other).norm() < 0.02 * (other - first).norm()


def test_automagic_raises_the_rate_of_a_steady_tensor_and_lowers_that_of_one_that_swings() -> None:
    steady, swinging = nn.Parameter(torch.zeros(4, 8)), nn.Parameter(torch.zeros(4, 8))
    optimizer = Automagic([steady, swinging], lr=1e-4, max_lr=5e-4, min_lr=5e-5)
    for step in range(40):
        steady.grad, swinging.grad = torch.ones(4, 8), torch.full((4, 8), (-1.0) ** step)
        optimizer.step()
    assert float(optimizer.state[steady]["factor"]) == pytest.approx(5)
    assert float(optimizer.state[swinging]["factor"]) == pytest.approx(0.5)
