"""Cached quantized weights that are damaged: computed again with a message, and always right."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import run
from tests.reliability.bad_inputs.battery import expect_result
from tests.reliability.bad_inputs.test_stored import DAMAGES
from tests.reliability.bad_inputs.test_tensor_files import FILES, GOOD, Trap
from tests.reliability.scale import count
from tests.tiny import write_job
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.weights.streaming import set_tensor

KIND = "quantized caches"
CPU = torch.device("cpu")
MAKE_AGAIN = "will be computed again"


def values(seed: int = 0, width: int = 64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"outer.weight": (8, width), "layer.weight": (64, width), "layer.bias": (64,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def start(entry: Path, weights: dict[str, Tensor], qtype: str = "nf4") -> tuple[nn.Module, list[str]]:
    """The module as a start has it, and what was said."""
    width = weights["layer.weight"].shape[1]
    with torch.device("meta"):
        module = nn.ModuleDict({"outer": nn.Linear(width, 8, bias=False), "layer": nn.Linear(width, 64)})
    lines: list[str] = []

    def fill(device: torch.device, placed: Callable[[str], None] | None) -> None:
        for name, value in weights.items():
            set_tensor(module, name, value.clone())
            if placed is not None:
                placed(name)

    fill_frozen(module, fill, device=CPU, quantization=Quantization(qtype, ("layer",), entry, notify=lines.append))
    return module, lines


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, nn.Module]:
    """An entry, and the module that was kept in it."""
    entry = tmp_path / "entry.safetensors"
    return entry, start(entry, values())[0]


def must_be_made_again(entry: Path, right: nn.Module) -> None:
    module, lines = expect_result(KIND, lambda: start(entry, values()))
    assert same(module, right)
    assert str(entry) in lines[0]
    assert MAKE_AGAIN in lines[0]
    module, lines = start(entry, values())  # from what was kept now
    assert same(module, right)
    assert "read from" in lines[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(damage: str, kept: tuple[Path, nn.Module]) -> None:
    DAMAGES[damage](kept[0])
    must_be_made_again(*kept)


def test_an_entry_that_is_no_entry_is_made_again(kept: tuple[Path, nn.Module]) -> None:
    for content in (*FILES.values(), GOOD):
        kept[0].write_bytes(content)
        must_be_made_again(*kept)


def with_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the header of a file, as long as it was or longer."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


QWEIGHT = "layer.qweight"
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no checksums": lambda header: header["__metadata__"].pop("crc32"),
    "checksums that are no json": lambda header: header["__metadata__"].update(crc32="{"),
    "checksums that are a list": lambda header: header["__metadata__"].update(crc32="[1]"),
    "checksums nested too deeply": lambda header: header["__metadata__"].update(crc32="[" * 100_000),
    "checksums that are a number": lambda header: header["__metadata__"].update(crc32="9" * 5000),
    "no metadata": lambda header: header.pop("__metadata__"),
    "another name": lambda header: header["__metadata__"].update(name="other.safetensors"),
    "100,000 tensors more": lambda header: header.update(
        {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
    ),
    "another type of the same size": lambda header: header[QWEIGHT].update(dtype="I8"),
    "another shape of the same size": lambda header: header[QWEIGHT].update(shape=[*header[QWEIGHT]["shape"][::-1], 1]),
    "one long row": lambda header: header[QWEIGHT].update(shape=[1, 64 * 32]),
    "a bias of another shape": lambda header: header["layer.bias"].update(shape=[8, 8]),
    "a tensor under another name": lambda header: header.update({"layer.other": header.pop(QWEIGHT)}),
    "names exchanged": lambda header: header.update(
        {"outer.weight": header["layer.bias"], "layer.bias": header["outer.weight"]}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_entry_with_another_header_is_made_again(change: str, kept: tuple[Path, nn.Module]) -> None:
    with_header(kept[0], CHANGES[change])
    must_be_made_again(*kept)


@pytest.mark.parametrize("qtype", ["nf4", "qfloat8", "qint4"])
def test_flipped_bits_anywhere_never_change_the_module(qtype: str, tmp_path: Path) -> None:
    entry, draw = tmp_path / "entry.safetensors", random.Random(0)
    right = start(entry, values(), qtype)[0]
    whole = entry.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for trial in range(count(60, long=200)):
        data = bytearray(whole)
        for _ in range(1 + trial % 3):
            data[draw.randrange(header if trial % 2 else len(data))] ^= 1 << draw.randrange(8)
        entry.write_bytes(data)
        module, lines = expect_result(KIND, lambda: start(entry, values(), qtype))
        assert same(module, right)
        assert MAKE_AGAIN in lines[0] or "read from" in lines[0]


def test_the_entry_of_another_module_under_this_name_is_not_taken(kept: tuple[Path, nn.Module], tmp_path: Path) -> None:
    entry, right = kept
    for other in (values(seed=1), values(width=32), values(width=128)):
        foreign = tmp_path / "foreign.safetensors"
        start(foreign, other)
        foreign.replace(entry)
        must_be_made_again(entry, right)


def test_a_pickle_under_the_name_of_an_entry_is_not_opened(kept: tuple[Path, nn.Module], tmp_path: Path) -> None:
    torch.save(Trap(tmp_path / "canary"), kept[0])
    must_be_made_again(*kept)
    assert not (tmp_path / "canary").exists()


def folder(path: Path) -> None:
    path.mkdir()
    (path / "something.txt").write_text("of the user's")


PLACES: dict[str, Callable[[Path], object]] = {
    "folder": folder,
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to(path.with_name("gone")),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_under_the_name_of_an_entry_stops_nobody(name: str, tmp_path: Path) -> None:
    entry = tmp_path / "entry.safetensors"
    right = start(tmp_path / "right.safetensors", values())[0]
    PLACES[name](entry)
    module, lines = expect_result(KIND, lambda: start(entry, values()))
    assert same(module, right)
    assert str(entry) in "".join(lines)


@pytest.mark.parametrize("place", ["file", "file/inside", "loop", "/dev/null", "/proc/quantized"])
def test_a_cache_that_cannot_be_written_is_reported_and_training_does_without(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    model = {"quantize": True, "qtype": "qfloat8", "quantize_cache": str(tmp_path / place)}
    job = write_job(tmp_path, model=model, train={"steps": 1})
    assert expect_result(KIND, lambda: run.main([str(job)]), cpu_limit_s=20) == 0
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert "quantize_cache" in shown.out + shown.err
