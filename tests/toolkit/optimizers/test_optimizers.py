"""toolkit.optimizers.optimizers"""

from pathlib import Path
from typing import get_args

import pytest
import torch

from toolkit.config import TrainConfig
from toolkit.errors import UserError
from toolkit.optimizers.optimizers import OPTIMIZERS, build_optimizer, load_optimizer_tensors, optimizer_tensors
from toolkit.weights.tensor_files import read_tensors, write_tensors


def _weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 30), (7,))]


def _step(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()


def test_config_and_registry_name_the_same_optimizers() -> None:
    assert set(get_args(TrainConfig.model_fields["optimizer"].annotation)) == OPTIMIZERS.keys()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_saved_to_disk_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    weights = _weights()
    optimizer = build_optimizer(kind, weights, lr=1e-2, options={})
    for step in range(3):
        _step(optimizer, weights, step)
    write_tensors(tmp_path / "optimizer.safetensors", optimizer_tensors(optimizer))
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    resumed = build_optimizer(kind, copies, lr=1e-2, options={})
    load_optimizer_tensors(resumed, read_tensors(tmp_path / "optimizer.safetensors"))
    for step in range(3, 6):
        _step(optimizer, weights, step)
        _step(resumed, copies, step)
    assert all(torch.equal(one, other) for one, other in zip(weights, copies, strict=True))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_changes_the_weights(kind: str) -> None:
    weights = _weights()
    before = [weight.detach().clone() for weight in weights]
    _step(build_optimizer(kind, weights, lr=1e-2, options={}), weights, 0)
    assert not any(torch.equal(one, other) for one, other in zip(before, weights, strict=True))


def test_a_strange_option_is_named() -> None:
    with pytest.raises(UserError, match=r"optimizer_params.*momentum"):
        build_optimizer("adamw", _weights(), lr=1e-3, options={"momentum": 0.9})
