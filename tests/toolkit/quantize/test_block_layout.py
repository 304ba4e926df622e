"""The layout of quantized weights on disk, with the tiny model: each block is one piece of the file, and of memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.tiny import tiny_config
from toolkit.memory.flat_block import FlatBlock
from toolkit.memory.placement import block_names
from toolkit.models.condition import Condition
from toolkit.models.options import ModelOptions
from toolkit.quantize.block_layout import ALIGNMENT, laid_out, stretches, without_padding
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.quantize.quantized_cache import keep_entry
from toolkit.weights.tensor_files import checksum, file_order, stream_tensors
from toolkit.weights.tensor_index import index_tensors

CPU = torch.device("cpu")
QTYPE = "nf4"
CHECKSUM = "toolkit.quantize.quantized_cache.checksum"


class Started(NamedTuple):
    """The tiny model with its transformer, and what was said while it was loaded."""

    model: Flux2TinyModel
    lines: list[str]

    @property
    def blocks(self) -> list[str]:
        return block_names(self.model.transformer)

    def block(self, name: str) -> list[Tensor]:
        return list(self.model.transformer.get_submodule(name).state_dict().values())


def _start(folder: Path) -> Started:
    config = tiny_config(quantize=True, qtype=QTYPE, quantize_te=False, quantize_cache=folder)
    lines: list[str] = []
    model = Flux2TinyModel(config, device=CPU, dtype=torch.float32, options=ModelOptions(notify=lines.append))
    model.load("transformer")
    return Started(model, lines)


def _entry(folder: Path) -> Path:
    (found,) = folder.glob("*.safetensors")
    return found


def _prediction(started: Started) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    latents, text = torch.randn(1, 64, 2, 2, generator=draw), torch.randn(1, 48, 192, generator=draw)
    with torch.no_grad():
        return started.model.get_noise_prediction(latents, torch.tensor([500.0]), Condition(text))


def _storages(tensors: Sequence[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def test_each_block_is_one_piece_of_the_file_in_the_order_of_the_forward_pass(tmp_path: Path) -> None:
    started = _start(tmp_path)
    index = index_tensors([_entry(tmp_path)])
    parts = stretches(index, started.blocks)
    assert parts is not None
    first = [next(iter(part.entries)) for part in parts]
    assert all(name.startswith(f"{block}.") for name, block in zip(first[1:], started.blocks, strict=True))
    assert [part.offset + part.num_bytes for part in parts[:-1]] == [part.offset for part in parts[1:]]
    assert all(entry.offset % ALIGNMENT == 0 for entry in without_padding(index).entries.values())
    read = load_file(_entry(tmp_path))  # any program that reads safetensors files reads this one
    for name, tensor in started.model.transformer.state_dict().items():
        assert torch.equal(read[name], tensor), name


def test_a_later_start_maps_each_block_once_and_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _start(tmp_path)
    monkeypatch.setattr(CHECKSUM, None)  # the file is as it was when it was found whole
    second = _start(tmp_path)
    assert any("read from" in line for line in second.lines)
    if (maps := Path("/proc/self/maps")).exists():
        assert str(_entry(tmp_path)) in maps.read_text()
    for name in second.blocks:
        read = _storages(second.block(name))
        assert len(read) == 1, name
        flat = FlatBlock(second.model.transformer.get_submodule(name), CPU)
        flat.pack()
        assert flat.host is not None
        assert {flat.host.untyped_storage().data_ptr()} == read, "a streamed block is used where it lies"
        assert len(_storages(first.block(name))) == len(first.block(name)), "what was made lies anywhere"
    assert torch.equal(_prediction(first), _prediction(second))


def test_a_file_that_came_from_elsewhere_is_compared_with_its_checksums_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start(tmp_path / "a")
    there = tmp_path / "b" / _entry(tmp_path / "a").name
    there.parent.mkdir()
    there.write_bytes(_entry(tmp_path / "a").read_bytes())
    compared: list[str] = []

    def counted(tensor: Tensor) -> str:
        compared.append(checksum(tensor))
        return compared[-1]

    monkeypatch.setattr(CHECKSUM, counted)
    counts = []
    for _ in range(2):
        started = _start(tmp_path / "b")
        counts.append(len(compared))
    assert counts == [len(started.model.transformer.state_dict())] * 2


def test_a_file_of_an_earlier_version_is_read_and_written_anew(tmp_path: Path) -> None:
    first = _start(tmp_path)
    tensors, entry = first.model.transformer.state_dict(), _entry(tmp_path)
    stream_tensors(entry, {name: tensors[name] for name in file_order(tensors)}, {"name": entry.name})
    assert stretches(index_tensors([entry]), first.blocks) is None
    second = _start(tmp_path)
    assert [line.partition(":")[0] for line in second.lines if "earlier version" in line] == [
        "they lie as an earlier version wrote them, and are written anew"
    ]
    assert stretches(index_tensors([entry]), first.blocks) is not None
    third = _start(tmp_path)
    assert not any("earlier version" in line for line in third.lines)
    expected = _prediction(first)
    assert torch.equal(_prediction(second), expected)
    assert torch.equal(_prediction(third), expected)


def test_no_block_is_given_the_tensors_of_one_whose_name_begins_alike() -> None:
    tensors = {name: torch.ones(3) for name in ("blocks.10.weight", "outer", "blocks.1.weight", "blocks.1.bias")}
    names = [name for name in laid_out(tensors, ["blocks.1", "blocks.10"]) if name in tensors]
    assert names == ["outer", "blocks.1.weight", "blocks.1.bias", "blocks.10.weight"]


def test_one_process_of_several_reads_only_its_rows_and_leaves_the_file_alone(tmp_path: Path) -> None:
    module: Any = torch.nn.ModuleDict({"layer": torch.nn.Linear(64, 8, bias=False)}).requires_grad_(False)
    assert "cached" in keep_entry(tmp_path / "a.safetensors", module, [])
    empty: Any = torch.nn.ModuleDict({"layer": torch.nn.Linear(64, 8, bias=False, device="meta")})
    quantization = Quantization("int8", (), tmp_path / "a.safetensors", notify=lambda line: None)
    fill_frozen(
        empty,
        lambda *_: pytest.fail("the model's files are not needed"),
        device=CPU,
        quantization=quantization,
        rows=lambda name, tensor: tensor[2:4],
    )
    assert torch.equal(empty["layer"].weight, module["layer"].weight[2:4])
    assert empty["layer"].weight.untyped_storage().nbytes() == 2 * 64 * 4, "a copy of its rows alone"
