"""A disk cache of quantized modules, under names that encode everything that determines their content."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import sha256_json, sweep_temporary
from toolkit.quantize.block_layout import ALIGNMENT, laid_out, stretches, without_padding
from toolkit.quantize.cache_folder import ELSEWHERE, lack_of_room
from toolkit.quantize.formats import VERSION
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.runtime.verified import Verified
from toolkit.units import as_size
from toolkit.weights.streaming import Rows, set_tensor
from toolkit.weights.tensor_files import checksum, read_checksums, read_metadata, stream_tensors
from toolkit.weights.tensor_index import TensorIndex, index_tensors

# Of the clock that stamps files: what changes the file within the same tick would not show.
_TICK_S = 0.01


class DamagedEntry(Exception):
    """The content of a cache file is not what was written under its name."""


class Found(NamedTuple):
    """What was read: bytes of the module's tensors, and whether they lay as `keep_entry` writes them now."""

    num_bytes: int
    is_laid_out: bool


@dataclass(frozen=True)
class Place:
    """Where to keep a module's tensors.

    Attributes:
        used_on: the device that they are used on.
        device_of: returns the device for a tensor, by its name; one for all of a block.
        rows: cuts each tensor to what this process keeps; None for all of it.
    """

    used_on: torch.device
    device_of: Callable[[str], torch.device]
    rows: Rows | None = None


def entry_path(
    folder: Path, *, weights: str, qtype: str, layers: Sequence[str], dtype: torch.dtype, label: str
) -> Path:
    """The cache file of a quantized module.

    Args:
        folder: the cache folder, from `cache_folder`.
        weights: fingerprint of the weights that the module was quantized from.
        qtype: number format of the quantized layers.
        layers: names of the quantized layers.
        dtype: dtype of everything else.
        label: human-readable start of the file name.
    """
    facts = {"version": VERSION, "weights": weights, "qtype": qtype, "layers": list(layers), "dtype": str(dtype)}
    return folder / f"{label}-{qtype}-{sha256_json(facts)[:32]}.safetensors"


def keep_entry(path: Path, module: nn.Module, blocks: Sequence[str]) -> str:
    """Write a module to the cache. If there is no room, nothing is written; training works without it.

    Args:
        path: the file.
        module: the quantized module.
        blocks: names of its blocks in the order of the forward pass; the tensors of each lie side by side.

    Returns:
        What happened, in one line for the user.
    """
    tensors = module.state_dict()
    size = sum(tensor.nbytes for tensor in tensors.values())
    if (lacking := lack_of_room(path.parent, size)) is not None:
        return f"warning: quantized weights are not cached: {lacking}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporary(path.parent)
        stream_tensors(path, laid_out(tensors, blocks), {"name": path.name}, alignment=ALIGNMENT)
    except OSError as error:
        return f"warning: quantized weights are not cached: {path} cannot be written ({error.strerror}). {ELSEWHERE}"
    time.sleep(_TICK_S)
    Verified(path.parent).add(path)
    return f"quantized weights ({as_size(size)}) cached for later starts in {path}"


def read_entry(
    path: Path,
    module: nn.Module,
    *,
    qtype: str,
    layers: Sequence[str],
    blocks: Sequence[str],
    place: Place,
) -> Found:
    """Fill an empty module from a file written by `keep_entry`.

    Each block is mapped or copied as one: its tensors are views of one buffer. A file that has changed since it was
    last found whole, or that an earlier version wrote, is compared with its checksums first.

    Args:
        path, module: the file, and the module with its layers not quantized.
        qtype, layers: the number format, and the names of the layers that are stored in it.
        blocks: see `keep_entry`.
        place: where to keep the tensors.

    Raises:
        DamagedEntry: the file is incomplete or of another module. The module keeps its unquantized layers.
    """
    linears = {name: module.get_submodule(name) for name in layers}
    try:
        whole, checksums = index_tensors([path]), read_checksums(path)
        index = without_padding(whole)
        if read_metadata(path).get("name") != path.name:
            raise DamagedEntry("it was written under another name")
        for name in layers:
            module.set_submodule(name, _shell(index.under(f"{name}."), linears[name], qtype=qtype))
        if {name: tuple(t.shape) for name, t in module.state_dict().items()} != _shapes(index):
            raise DamagedEntry("its tensors do not match this model")
        if not (verified := Verified(path.parent)).has(path):
            _compare(index, checksums)
            verified.add(path)
    except (UserError, DamagedEntry) as error:
        for name, linear in linears.items():
            module.set_submodule(name, linear)
        raise DamagedEntry(str(error)) from error
    parts = stretches(whole, blocks)
    if parts is None or place.rows is not None:
        _read_one_by_one(module, index, place)
    else:
        for part in parts:
            (device,) = {place.device_of(name) for name in part.entries}
            for name, tensor in part.views(part.load(device, used_on=place.used_on)).items():
                set_tensor(module, name, tensor)
    return Found(sum(entry.num_bytes for entry in index.entries.values()), is_laid_out=parts is not None)


def _compare(index: TensorIndex, checksums: Mapping[str, str]) -> None:
    for name in index.entries:
        if checksums.get(name) != checksum(index.read(name)):
            raise DamagedEntry(f"{name} has changed since it was written")


def _read_one_by_one(module: nn.Module, index: TensorIndex, place: Place) -> None:
    for name in index.entries:
        tensor = index.read(name)
        kept = tensor if place.rows is None else place.rows(name, tensor)
        set_tensor(module, name, kept.to(place.device_of(name), copy=True))


def _shell(index: TensorIndex, linear: Any, *, qtype: str) -> FrozenLinear:
    """A quantized layer on the meta device, with the shapes in the file."""
    buffers: dict[str, Tensor] = {
        name: torch.empty(entry.shape, dtype=entry.torch_dtype, device="meta")
        for name, entry in index.entries.items()
        if name != "bias"
    }
    if "qweight" not in buffers:
        raise DamagedEntry("a quantized layer is missing")
    return FrozenLinear(buffers, qtype=qtype, in_features=linear.in_features, bias=linear.bias)


def _shapes(index: TensorIndex) -> dict[str, tuple[int, ...]]:
    return {name: entry.shape for name, entry in index.entries.items()}
