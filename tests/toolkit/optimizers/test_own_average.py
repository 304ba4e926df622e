"""toolkit.optimizers.own_average: users get the average, and training goes on from the other weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.live_bytes import LiveBytes
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.own_average import users_weights
from toolkit.optimizers.trial import Trial

KINDS = [kind for kind, row in OPTIMIZERS.items() if row.keeps_average]


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_is_in_place_within_the_block_only(kind: str) -> None:
    row = OPTIMIZERS[kind]
    trial = Trial(lambda weights: build_optimizer(kind, weights, lr=float(row.lr), options={}), float(row.lr))
    weights = trial.weights()
    optimizer = trial.build(weights)
    trial.steps(weights, optimizer, 5)
    before = [weight.detach().clone() for weight in weights]
    with users_weights(optimizer):
        for weight, trained in zip(weights, before, strict=True):
            average = trained.lerp(optimizer.state[weight]["z"], 1 - 1 / 0.9)  # y = 0.1 z + 0.9 average
            torch.testing.assert_close(weight.detach(), average)
            assert not torch.equal(weight, trained)
    assert all(torch.equal(weight, trained) for weight, trained in zip(weights, before, strict=True))
    trial.steps(weights, optimizer, 1)  # it is in training again


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_aside_takes_as_much_as_the_weights(kind: str) -> None:
    row = OPTIMIZERS[kind]
    trial = Trial(lambda weights: build_optimizer(kind, weights, lr=float(row.lr), options={}), float(row.lr))
    weights = trial.weights()
    optimizer = trial.build(weights)
    trial.steps(weights, optimizer, 1)
    with LiveBytes() as live:
        seen = [weight.detach() for weight in weights]  # so that they are counted before
        before = live.now
        with users_weights(optimizer):
            assert live.now - before == sum(weight.nbytes for weight in seen)


def test_other_kinds_have_one_set_of_weights() -> None:
    weight = nn.Parameter(torch.ones(2))
    with users_weights(build_optimizer("adamw", [weight], lr=1e-3, options={})):
        assert torch.equal(weight, torch.ones(2))
