"""toolkit.quantize.fill and toolkit.quantize.quantized_cache, with a small module."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from benchmarks.quantize import starts
from toolkit.errors import UserError
from toolkit.quantize.cache_folder import cache_folder
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import QTYPES
from toolkit.quantize.quantized_cache import entry_path
from toolkit.weights.streaming import set_tensor

CPU = torch.device("cpu")
LAYERS = ("blocks.0", "blocks.1")


class Filled(NamedTuple):
    """A module, and what was said while it was filled."""

    module: Any
    lines: list[str]
    was_read: bool  # the files were needed


def _empty() -> nn.Module:
    with torch.device("meta"):
        model = nn.Module()
        model.outer = nn.Linear(8, 64)
        model.blocks = nn.ModuleList([nn.Linear(64, 64, bias=False), nn.Linear(64, 32)])
        model.register_buffer("table", torch.empty(3, dtype=torch.int64))
    return model.requires_grad_(False)


def _values() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in _empty().state_dict().items()}
    random = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return random | {"table": torch.tensor([1, 2, 3])}


def _fill(qtype: str, entry: Path | None = None, *, values: dict[str, Tensor] | None = None, **options: Any) -> Filled:
    module = _empty()
    lines: list[str] = []
    read: list[str] = []

    def fill(device: torch.device, placed: Callable[[str], None] | None) -> None:
        for name, value in (values or _values()).items():
            read.append(name)
            set_tensor(module, name, value.to(device))
            if placed is not None:
                placed(name)

    options = {"layers": LAYERS, "notify": lines.append, **options}
    fill_frozen(module, fill, device=CPU, quantization=Quantization(qtype, entry=entry, **options))
    return Filled(module, lines, bool(read))


def _same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("qtype", QTYPES)
def test_the_layers_are_quantized_and_the_rest_is_as_it_was(qtype: str) -> None:
    module = _fill(qtype).module
    assert [name for name, layer in module.named_modules() if isinstance(layer, FrozenLinear)] == list(LAYERS)
    values = _values()
    assert all(torch.equal(module.state_dict()[n], values[n]) for n in ("outer.weight", "blocks.1.bias", "table"))
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in module.parameters())


@pytest.mark.parametrize("qtype", QTYPES)
def test_the_second_start_reads_the_same_bits_and_no_file_of_the_model(qtype: str, tmp_path: Path) -> None:
    entry = tmp_path / "new folder" / "entry.safetensors"
    first, second = _fill(qtype, entry), _fill(qtype, entry)
    assert (first.was_read, second.was_read) == (True, False)
    assert _same(first.module, second.module)
    assert not any(parameter.requires_grad for parameter in second.module.parameters())
    x = torch.randn(2, 64)
    assert torch.equal(first.module.blocks[1](x), second.module.blocks[1](x))
    for lines in (first.lines, second.lines):
        assert str(entry) in lines[0]
        assert " MB" in lines[0]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit": _flip,
    "no safetensors": lambda path: path.write_text("not tensors"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_found_and_made_again(damage: str, tmp_path: Path) -> None:
    entry = tmp_path / "entry.safetensors"
    first = _fill("nf4", entry)
    DAMAGES[damage](entry)
    again = _fill("nf4", entry)
    assert again.was_read
    assert "the quantized weights are damaged" in again.lines[0]
    assert _same(first.module, again.module)
    assert not _fill("nf4", entry).was_read


def test_the_entry_of_another_format_is_not_taken_for_this_one(tmp_path: Path) -> None:
    entry = tmp_path / "entry.safetensors"
    _fill("nf4", entry)
    other = entry.rename(tmp_path / "other.safetensors")
    assert _fill("uint4", other).was_read


def test_everything_that_shapes_the_weights_is_in_the_name(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"weights": "a", "qtype": "int8", "layers": LAYERS, "dtype": torch.bfloat16, "label": "m"}
    others = {"weights": "b", "qtype": "nf4", "layers": LAYERS[:1], "dtype": torch.float32}
    names = {entry_path(tmp_path, **facts | {key: other}) for key, other in others.items()}
    assert len(names | {entry_path(tmp_path, **facts)}) == 5


def test_a_full_drive_costs_the_cache_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    filled = _fill("int8", tmp_path / "new" / "entry.safetensors")
    assert isinstance(filled.module.blocks[0], FrozenLinear)
    assert "not cached" in filled.lines[0]
    assert "model.quantize_cache" in filled.lines[0]
    assert list(tmp_path.iterdir()) == []


def test_quantized_on_the_cpu_is_quantized_the_same() -> None:
    assert _same(_fill("qint4", on_cpu=True).module, _fill("qint4").module)


def test_weights_that_are_not_numbers_are_an_error_that_names_the_layer() -> None:
    values = _values()
    values["blocks.1.weight"][3, 4] = float("nan")
    for qtype in QTYPES:
        with pytest.raises(UserError, match=rf"blocks\.1: cannot be quantized to {qtype}: its weights are not all fin"):
            _fill(qtype, values=values)


def test_what_cannot_be_quantized_is_an_error() -> None:
    with pytest.raises(UserError, match=r"unknown value `int7`\. Known: qfloat8, "):
        _fill("int7")
    with pytest.raises(RuntimeError, match=r"1 layers were left unquantized, such as blocks\.0"):
        _fill("int8", values={name: value for name, value in _values().items() if name != "blocks.0.weight"})


def test_the_folder_of_the_cache_follows_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(False) is None
    assert cache_folder(Path("/data/quantized")) == Path("/data/quantized")
    folder = cache_folder(True)
    assert folder is not None
    assert folder.is_relative_to(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak from /proc")
def test_both_starts_of_a_model_of_400_mb_take_the_quantized_model_and_little_more(tmp_path: Path) -> None:
    figures = starts(["int8"], num_double=1, num_single=1, folder=str(tmp_path))
    assert figures["file_bytes"] > 400e6
    for which in ("first", "cached"):
        start = figures["int8"][which]
        assert start["model_bytes"] < 0.7 * figures["file_bytes"]  # the blocks are two thirds of this one
        assert start["peak_beyond_model_bytes"] < start["largest_tensor_bytes"] + 48e6
