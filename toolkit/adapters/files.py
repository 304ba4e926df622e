"""Adapter files: one safetensors file per adapter, read back before it counts, and loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.adapters.adapter import Adapter
from toolkit.errors import UserError
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors


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
