"""toolkit.optimizers.optimizers. What is promised for every kind: tests/contract/test_optimizers.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.config import TrainConfig
from toolkit.errors import UserError
from toolkit.optimizers.optimizers import build_optimizer, in_groups, without_decay
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors


def _weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))]


def test_a_strange_option_is_named() -> None:
    with pytest.raises(UserError, match=r"optimizer_params.*momentum"):
        build_optimizer("adamw", _weights(), lr=1e-3, options={"momentum": 0.9})


def test_a_pattern_that_is_part_of_no_name_is_a_mistake() -> None:
    params = TrainConfig.model_validate({"optimizer_params": {"no_decay_if_contains": ["bias"]}}).optimizer_params
    assert without_decay(["a.bias", "a.weight"], params) == {"a.bias"}
    with pytest.raises(UserError, match=r'no_decay_if_contains: no trained weight has "bias".*a\.weight'):
        without_decay(["a.weight"], params)


def test_state_follows_its_weight_when_a_resumed_job_groups_weights_otherwise() -> None:
    named = list(zip("abc", _weights(), strict=True))
    one = build_optimizer("lion", in_groups(named, {}), lr=1e-3, options={})
    for number, (_, weight) in enumerate(named):
        weight.grad = torch.full_like(weight, number)
    one.step()
    other = build_optimizer("lion", in_groups(named, {"a": 2.0}, ["b"]), lr=1e-3, options={})
    load_optimizer_tensors(other, optimizer_tensors(one))
    assert len(other.param_groups) == 3
    assert all(torch.equal(other.state[weight]["exp_avg"], one.state[weight]["exp_avg"]) for _, weight in named)


def test_a_step_size_of_other_groups_is_refused() -> None:
    named = list(zip("abc", _weights(), strict=True))
    one = build_optimizer("prodigy", in_groups(named, {}), lr=1.0, options={})
    for _, weight in named:
        weight.grad = torch.ones_like(weight)
    one.step()
    other = build_optimizer("prodigy", in_groups(named, {}, ["b"]), lr=1.0, options={})
    with pytest.raises(UserError, match="other groups of weights"):
        load_optimizer_tensors(other, optimizer_tensors(one))
