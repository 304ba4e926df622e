"""Adapter files: one safetensors file per adapter, read back before it counts, and loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.adapters.adapter import Adapter
from toolkit.errors import UserError
from toolkit.models.base_model import StateDict
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

_SHOWN = 3


def write_adapter(path: Path, adapter: Adapter, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Write an adapter's file, and compare what was written before it replaces an older one.

    Args:
        path: the file.
        adapter: the adapter.
        dtype: number format of the weights.
        metadata: what the file's header says besides what the adapter says of itself.

    Raises:
        UserError: the file holds something else than what was written.
    """
    tensors = {name: _as_written(tensor, dtype) for name, tensor in adapter.state_dict().items()}

    def check(temporary: Path) -> None:
        written = read_tensors(temporary)
        if written.keys() != tensors.keys() or any(not _same(written[name], tensors[name]) for name in tensors):
            raise UserError(f"{path}: holds something else than what was written. Check the disk, then start again.")

    write_tensors(path, tensors, {**metadata, **adapter.metadata()}, check=check)


def check_state(tensors: StateDict, shapes: Mapping[str, tuple[int, ...]], *, source: str, what: str) -> None:
    """Check that a file has exactly an adapter's keys, each in its shape.

    Args:
        tensors: content of the file.
        shapes: shape of each of the adapter's tensors by key.
        source: the file, for messages.
        what: the adapter, for messages, such as `ip adapter with 4 tokens`.

    Raises:
        UserError: keys are missing, unknown or of another shape; the first few are named.
    """
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    unequal = [
        f"{name} is {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ]
    found = [
        f"{len(names)} {word}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for names, word in ((missing, "missing"), (unknown, "unknown"), (unequal, "of another shape"))
        if names
    ]
    if found:
        raise UserError(
            f"{source}: is not a file of this {what}. {'; '.join(found)}. It belongs to another model, encoder or kind "
            "of adapter: check adapter.name_or_path."
        )


@torch.no_grad()
def copy_state(parameters: Mapping[str, Tensor], tensors: StateDict) -> None:
    """Copy checked tensors into an adapter's weights."""
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def check_header(metadata: Mapping[str, str], expected: Mapping[str, str], *, source: str) -> None:
    """Check what a header says against what the job says; headers without a key are accepted.

    Raises:
        UserError: they differ.
    """
    for key, value in expected.items():
        if key in metadata and metadata[key] != value:
            raise UserError(
                f"{source}: was trained with {key.replace('_', ' ')} {metadata[key]}, and this job has {value}. "
                "Change the job, or choose another file."
            )


def _as_written(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the number format of the file; counts and shapes keep theirs."""
    return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()


def _same(written: Any, own: Tensor) -> bool:
    return written.dtype == own.dtype and torch.equal(written, own)


def load_adapter(path: Path, adapter: Adapter) -> None:
    """Load the weights of an adapter file.

    Raises:
        UserError: the file is damaged, or of another adapter, model or encoder.
    """
    adapter.load_state_dict(read_tensors(path), read_metadata(path), source=str(path))
