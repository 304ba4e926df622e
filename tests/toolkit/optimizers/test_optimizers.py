"""toolkit.optimizers.optimizers"""

from pathlib import Path

import pytest
import torch

from toolkit.config import TrainConfig
from toolkit.errors import UserError
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.state import load_optimizer_tensors, optimizer_tensors
from toolkit.weights.tensor_files import read_tensors, write_tensors


def _weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 30), (7,))]


def _build(kind: str, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """With the settings of a job that names nothing but the optimizer."""
    options = TrainConfig(optimizer=kind).optimizer_params.model_dump(exclude_none=True)
    return build_optimizer(kind, weights, lr=1e-2, options=options)


def _step(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_saved_to_disk_continues_bit_for_bit(kind: str, tmp_path: Path) -> None:
    weights = _weights()
    optimizer = _build(kind, weights)
    for step in range(3):
        _step(optimizer, weights, step)
    write_tensors(tmp_path / "optimizer.safetensors", optimizer_tensors(optimizer))
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    resumed = _build(kind, copies)
    load_optimizer_tensors(resumed, read_tensors(tmp_path / "optimizer.safetensors"))
    for step in range(3, 6):
        _step(optimizer, weights, step)
        _step(resumed, copies, step)
    assert all(torch.equal(one, other) for one, other in zip(weights, copies, strict=True))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_state_takes_the_bytes_that_the_memory_plan_counts(kind: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(512, 512))]
    optimizer = _build(kind, weights)
    _step(optimizer, weights, 0)
    state = sum(value.nbytes for value in optimizer_tensors(optimizer).values() if value.numel() > 1)
    assert state / weights[0].numel() == pytest.approx(OPTIMIZERS[kind].state_bytes, rel=1e-3)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_of_other_weights_is_refused(kind: str) -> None:
    weights = _weights()
    optimizer = _build(kind, weights)
    _step(optimizer, weights, 0)
    others = [torch.nn.Parameter(torch.ones(4, 3)), weights[1]]
    with pytest.raises(UserError, match="was saved by a job that trains other weights"):
        load_optimizer_tensors(_build(kind, others), optimizer_tensors(optimizer))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_changes_the_weights(kind: str) -> None:
    weights = _weights()
    before = [weight.detach().clone() for weight in weights]
    _step(_build(kind, weights), weights, 0)
    assert not any(torch.equal(one, other) for one, other in zip(before, weights, strict=True))


def test_a_strange_option_is_named() -> None:
    with pytest.raises(UserError, match=r"optimizer_params.*momentum"):
        build_optimizer("adamw", _weights(), lr=1e-3, options={"momentum": 0.9})
