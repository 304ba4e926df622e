"""What every optimizer of the table promises. That a run of each survives being killed: tests/toolkit/train/."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.config import TrainConfig
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.optimizers import build_optimizer, in_groups, options_of, without_decay
from toolkit.optimizers.own_average import HasOwnAverage
from toolkit.optimizers.stored.state import DOCUMENT, optimizer_tensors
from toolkit.optimizers.trial import NUM_STEPS, SHAPES, Trial

KINDS = [kind for kind, row in OPTIMIZERS.items() if not row.notice]


def _trial(kind: str, *, in_two_groups: bool = False, **options: Any) -> Trial:
    """With the settings of a job that names nothing but the optimizer."""
    row = OPTIMIZERS[kind]
    lr = 1.0 if row.finds_its_rate else max(2e-3, float(row.lr))  # a trial is short
    params = TrainConfig.model_validate({"optimizer": kind, "lr": lr, "optimizer_params": options}).optimizer_params

    def build(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        named = list(zip("abc", weights, strict=True))
        rates = {"b": 4.0} if in_two_groups and not row.finds_its_rate else {}
        groups = in_groups(named, rates, without_decay("abc", params))
        return build_optimizer(kind, groups, lr=lr, options=options_of(params))

    return Trial(build, lr)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    before, after = _trial(kind).learned(120)
    assert after < 0.75 * before


@pytest.mark.parametrize("kind", KINDS)
def test_it_resumes_from_every_step_bit_for_bit(kind: str) -> None:
    trial = _trial(kind, in_two_groups=True, weight_decay=0.01, no_decay_if_contains=["c"])
    assert all(trial.resumes_after(step) for step in range(1, NUM_STEPS))


@pytest.mark.parametrize("shape", [(16, 320), (640, 32), (512,)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_it_states_its_bytes(kind: str, shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.ones(shape))
    optimizer = build_optimizer(kind, [weight], lr=1.0, options={})
    weight.grad = torch.linspace(-1, 1, weight.numel()).view(shape)
    optimizer.step()
    tensors = {key: tensor for key, tensor in optimizer_tensors(optimizer).items() if key != DOCUMENT}
    found = sum(tensor.nbytes for tensor in tensors.values() if tensor.numel() > 1)
    row = OPTIMIZERS[kind]
    assert found == pytest.approx(row.num_bytes(shape), rel=0.05)
    if row.bytes_of_shape is None:
        assert row.num_bytes(shape) == row.state_bytes * math.prod(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_can_be_off_for_some_weights(kind: str) -> None:
    options = TrainConfig.model_validate(
        {"optimizer": kind, "optimizer_params": {"weight_decay": 0.5, "no_decay_if_contains": ["b"]}}
    ).optimizer_params
    weights = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    groups = in_groups(list(zip("abc", weights, strict=True)), {}, without_decay("abc", options))
    optimizer = build_optimizer(kind, groups, lr=1e-3, options=options_of(options))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_says_truly_whether_it_keeps_an_average(kind: str) -> None:
    optimizer = build_optimizer(kind, [nn.Parameter(torch.ones(2, 2))], lr=1.0, options={})
    assert isinstance(optimizer, HasOwnAverage) == OPTIMIZERS[kind].keeps_average


@pytest.mark.parametrize("kind", [kind for kind in KINDS if OPTIMIZERS[kind].is_shardable])
def test_rows_can_be_updated_apart_where_the_row_says_so(kind: str) -> None:
    """Except for what rounding to blocks of few bits changes, which begin elsewhere."""

    def ends(count: int) -> Tensor:
        whole = torch.linspace(-1, 1, 32 * 64).view(32, 64)
        found = []
        for rows in range(0, 32, 32 // count):
            weight = nn.Parameter(whole[rows : rows + 32 // count].clone())
            optimizer = build_optimizer(kind, [weight], lr=1e-3, options={})
            for step in range(3):
                weight.grad = (weight.detach() - 0.1 * step).sin()
                optimizer.step()
            found.append(weight.detach())
        return torch.cat(found)

    torch.testing.assert_close(ends(1), ends(4), rtol=1e-6, atol=1e-7)
