"""Loading a rank's own rows: together they are the whole weights, and no rank ever holds more than its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import ROOT
from toolkit.memory.sharded import parameter_shapes, rows_of_module
from toolkit.parallel.weight_layout import rows_of
from toolkit.quantize.fill import Quantization, fill_frozen
from toolkit.quantize.qtypes import QTYPES
from toolkit.weights.scaled import PlainWeights
from toolkit.weights.streaming import stream_into, unchanged
from toolkit.weights.tensor_files import write_tensors
from toolkit.weights.tensor_index import index_tensors

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Position:
    """A rank, as far as loading needs to know it."""

    position: int
    count: int

    def cut(self, num_rows: int) -> slice:
        return rows_of(num_rows, self.position, self.count)


def _empty(width: int = 64, depth: int = 2) -> nn.Module:
    with torch.device("meta"):
        model = nn.Module()
        model.norm = nn.LayerNorm(width)
        model.blocks = nn.ModuleList([nn.Linear(width, width - 4 * index) for index in range(depth)])
    return model.requires_grad_(False)


def _load(path: Path, rank: Any, *, qtype: str | None = None, entry: Path | None = None) -> dict[str, Tensor]:
    """What a rank holds; all of it if `rank` is None."""
    module = _empty()
    rows = None if rank is None else rows_of_module(module, rank)
    weights = PlainWeights(index_tensors([path]))

    def fill(device: torch.device, placed: Any) -> None:
        options: Any = {"convert": unchanged, "dtype": torch.float32, "device": device, "placed": placed, "rows": rows}
        stream_into(module, weights, **options)

    quantization = (
        None if qtype is None else Quantization(qtype, ("blocks.0", "blocks.1"), entry, notify=lambda _: None)
    )
    fill_frozen(module, fill, device=CPU, quantization=quantization, rows=rows)
    return module.state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {name: torch.randn(shape) for name, shape in parameter_shapes(_empty()).items()})
    return path


@pytest.mark.parametrize("qtype", [None, *QTYPES])
def test_the_rows_of_all_ranks_are_the_whole_weights_bit_for_bit(qtype: str | None, file: Path) -> None:
    whole = _load(file, None, qtype=qtype)
    for count in (2, 7):
        parts = [_load(file, Position(position, count), qtype=qtype) for position in range(count)]
        for name, tensor in whole.items():
            mine = [part[name] for part in parts]
            found = mine[0] if name.endswith("codebook") else torch.cat(mine)
            assert torch.equal(found, tensor), name


def test_a_rank_reads_its_rows_from_the_cache_and_does_not_write_it(file: Path, tmp_path: Path) -> None:
    entry = tmp_path / "entry.safetensors"
    first = _load(file, Position(1, 2), qtype="uint4", entry=entry)
    assert not entry.exists()
    _load(file, None, qtype="uint4", entry=entry)
    again = _load(tmp_path / "weights.safetensors", Position(1, 2), qtype="uint4", entry=entry)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


_CHILD = """
import json, resource, sys, torch
from pathlib import Path
from tests.toolkit.memory.test_sharded import CPU, Position, _empty, rows_of_module, stream_into, unchanged
from tests.toolkit.memory.test_sharded import PlainWeights, index_tensors

def high_water():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if "VmHWM" in line) << 10

module = _empty(4096, 4)
weights = PlainWeights(index_tensors([Path(sys.argv[1])]))
torch.zeros(1 << 20).add_(1)
before = high_water()
rows = rows_of_module(module, Position(1, 4))
stream_into(module, weights, convert=unchanged, dtype=torch.float32, device=CPU, rows=rows)
own = sum(tensor.nbytes for tensor in module.state_dict().values())
print(json.dumps([own, high_water() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak from /proc")
def test_a_rank_of_four_never_holds_more_than_a_quarter_and_a_part_of_one_weight(tmp_path: Path) -> None:
    """Starts a process, because torch's memory cannot be told apart in one that has run before."""
    path = tmp_path / "weights.safetensors"
    shapes = parameter_shapes(_empty(4096, 4))
    write_tensors(path, {name: torch.zeros(shape) for name, shape in shapes.items()})
    largest = 4 * 4096**2
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    own, peak = json.loads(done.stdout)
    assert own < 0.26 * path.stat().st_size
    assert peak < own + largest / 4 + 24e6
