"""toolkit.optimizers.stored.state: whatever an optimizer keeps, it has again after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.stored.state import DOCUMENT, load_optimizer_tensors, optimizer_tensors
from toolkit.weights.tensor_files import read_tensors, write_tensors

ODD: dict[str, Any] = {
    "rows": torch.arange(3.0),
    "blocks": [torch.ones(2, 2), None, [torch.zeros((), dtype=torch.bfloat16), 3]],
    "none": None,
    "count": 7,
    "name": "polar",
    "is_warm": True,
    "low": float("-inf"),
    "dims": (1, 0),
    "inner": {"mean": torch.ones(1, dtype=torch.int8), "step": 2},
    "cut": torch.arange(20.0)[::11],
}


class Odd(torch.optim.Optimizer):
    """Keeps things that no optimizer of ours does."""

    def __init__(self, params: Any, lr: float = 0.1, scale: float = 2.0) -> None:
        super().__init__(params, {"lr": lr, "scale": scale, "d": 1e-6, "history": None})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group |= {"d": 0.5, "history": [1, torch.ones(2)], "weight_sum": 4.0}
            for weight in group["params"]:
                self.state[weight] |= ODD


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def test_lists_nothing_numbers_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(2))]
    optimizer = Odd(weights)
    optimizer.step()
    write_tensors(tmp_path / "state.safetensors", optimizer_tensors(optimizer))
    other = Odd(weights, scale=3.0)
    load_optimizer_tensors(other, read_tensors(tmp_path / "state.safetensors"))
    for weight in weights:
        assert _same(dict(other.state[weight]), ODD)
    (group,) = other.param_groups
    assert _same([group["d"], group["history"], group["weight_sum"]], [0.5, [1, torch.ones(2)], 4.0])
    assert group["scale"] == 3.0, "a setting is the job's, which may have changed"


def test_what_cannot_be_stored_is_named() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = Odd([weight])
    optimizer.state[weight]["draw"] = torch.Generator()
    with pytest.raises(UserError, match=r"holds a Generator \(0\.draw\)"):
        optimizer_tensors(optimizer)


def test_a_state_without_json_is_one_of_an_earlier_version() -> None:
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimizer = build_optimizer("adamw", weights, lr=1e-3, options={})
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    old = {key: tensor for key, tensor in optimizer_tensors(optimizer).items() if key != DOCUMENT}
    assert old.keys() == {f"{index}.{name}" for index in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    other = build_optimizer("adamw", weights, lr=1e-3, options={})
    load_optimizer_tensors(other, old)
    assert _same(dict(other.state[weights[1]]), dict(optimizer.state[weights[1]]))
