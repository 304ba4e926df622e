"""An optimizer's state, written by some processes and read by others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.stored.shards import read_state
from toolkit.optimizers.stored.state import DOCUMENT, optimizer_tensors
from toolkit.parallel.weight_layout import Piece, rows_of
from toolkit.weights.row_files import RowFiles
from toolkit.weights.tensor_files import write_tensors


def _state(kind: str, weights: list[Tensor]) -> dict[str, Tensor]:
    """The state after a step with gradients that equal the weights."""
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = build_optimizer(kind, parameters, lr=1e-3, options={})
    for parameter in parameters:
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    return {key: tensor for key, tensor in optimizer_tensors(optimizer).items() if key != DOCUMENT}


def _cut(weights: list[Tensor], position: int, count: int) -> list[Tensor]:
    return [weight[rows_of(len(weight), position, count)] for weight in weights]


def _read(kind: str, weights: list[Tensor], folder: Path, *, written_by: int, position: int, count: int) -> bool | None:
    """Whether a process reads the state it would have had; None if the difference is that of rounding to 8 bits."""
    paths = [folder / f"{number}.safetensors" for number in range(written_by)]
    for number, path in enumerate(paths):
        write_tensors(path, _state(kind, _cut(weights, number, written_by)))
    pieces = [Piece(tuple(weight.shape), rows_of(len(weight), position, count)) for weight in weights]
    found, wanted = read_state(RowFiles(paths), pieces, written_by), _state(kind, _cut(weights, position, count))
    assert found.keys() == wanted.keys()
    assert all(found[key].shape == wanted[key].shape and found[key].dtype == wanted[key].dtype for key in wanted)
    if all(torch.equal(found[key].float(), wanted[key].float()) for key in wanted):
        return True
    scales = [key for key in wanted if key.endswith("_scale")]
    return None if all(torch.allclose(found[key], wanted[key], rtol=0.07) for key in scales) else False


@pytest.mark.parametrize(("written_by", "count"), [(2, 1), (1, 2), (2, 4), (4, 3), (3, 1)])
@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_the_state_of_whole_blocks_is_read_bit_for_bit(kind: str, written_by: int, count: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(12, 256), torch.randn(24, 128)]
    for position in range(count):
        assert _read(kind, weights, tmp_path, written_by=written_by, position=position, count=count)


@pytest.mark.parametrize(("written_by", "count"), [(2, 1), (1, 3), (2, 3)])
def test_blocks_that_rows_divide_are_made_anew(written_by: int, count: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = [torch.rand(5, 100) + 0.5, torch.rand(7) + 0.5]
    assert _read("adamw", weights, tmp_path, written_by=written_by, position=0, count=count)
    for position in range(count):
        found = _read("adamw8bit", weights, tmp_path, written_by=written_by, position=position, count=count)
        assert found is not False
