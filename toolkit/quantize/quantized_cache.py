"""A disk cache of quantized modules, under names that encode everything that determines their content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.files import sha256_json, sweep_temporary
from toolkit.quantize.cache_folder import ELSEWHERE, lack_of_room
from toolkit.quantize.formats import VERSION
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.units import as_size
from toolkit.weights.streaming import Rows, set_tensor
from toolkit.weights.tensor_files import checksum, read_checksums, read_metadata, stream_tensors
from toolkit.weights.tensor_index import TensorIndex, index_tensors


class DamagedEntry(Exception):
    """The content of a cache file is not what was written under its name."""


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


def keep_entry(path: Path, module: nn.Module) -> str:
    """Write a module to the cache. If there is no room, nothing is written; training works without it.

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
        stream_tensors(path, tensors, {"name": path.name})
    except OSError as error:
        return f"warning: quantized weights are not cached: {path} cannot be written ({error.strerror}). {ELSEWHERE}"
    return f"quantized weights ({as_size(size)}) cached for later starts in {path}"


def read_entry(
    path: Path,
    module: nn.Module,
    *,
    qtype: str,
    layers: Sequence[str],
    device_of: Callable[[str], torch.device],
    rows: Rows | None = None,
) -> int:
    """Fill an empty module from a file written by `keep_entry`, with one tensor in host memory at a time.

    Args:
        path, module: the file, and the module with its layers not quantized.
        qtype, layers: the number format, and the names of the layers that are stored in it.
        device_of: returns the device for a tensor, by its name.
        rows: cuts each tensor to what this process keeps; None for all of it.

    Returns:
        Total bytes of the module's tensors.

    Raises:
        DamagedEntry: the file is incomplete or of another module. The module keeps its unquantized layers.
    """
    linears = {name: module.get_submodule(name) for name in layers}
    try:
        index, checksums = index_tensors([path]), read_checksums(path)
        if read_metadata(path).get("name") != path.name:
            raise DamagedEntry("it was written under another name")
        for name in layers:
            module.set_submodule(name, _shell(index.under(f"{name}."), linears[name], qtype=qtype))
        if {name: tuple(t.shape) for name, t in module.state_dict().items()} != _shapes(index):
            raise DamagedEntry("its tensors do not match this model")
        for name in index.entries:
            tensor = index.read(name)
            if checksums.get(name) != checksum(tensor):
                raise DamagedEntry(f"{name} has changed since it was written")
            kept = tensor if rows is None else rows(name, tensor)
            set_tensor(module, name, kept.to(device_of(name), copy=True))
    except (UserError, DamagedEntry) as error:
        for name, linear in linears.items():
            module.set_submodule(name, linear)
        raise DamagedEntry(str(error)) from error
    return sum(entry.num_bytes for entry in index.entries.values())


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
