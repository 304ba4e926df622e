"""Adapter files: one safetensors file per adapter, read back before it counts, and loaded strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.adapters.adapter import Adapter
from toolkit.errors import UserError
from toolkit.models.base_model import StateDict
from toolkit.parallel.weight_layout import WeightLayout, WholeWeights
from toolkit.weights.tensor_files import read_metadata, read_tensors, write_tensors

_ALONE = WholeWeights()


def write_adapter(
    path: Path,
    adapter: Adapter,
    *,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    layout: WeightLayout = _ALONE,
) -> None:
    """Write an adapter's file, and compare what was written before it replaces an older one.

    Args:
        path: the file.
        adapter: the adapter.
        dtype: number format of the weights.
        metadata: what the file's header says besides what the adapter says about itself.
        layout: where the adapter's weights are; only the first process writes.

    Raises:
        UserError: the file holds something else than what was written.
    """
    tensors = {name: _as_written(layout.whole(tensor), dtype) for name, tensor in adapter.state_dict().items()}

    def check(temporary: Path) -> None:
        written = read_tensors(temporary)
        if written.keys() != tensors.keys() or any(not _same(written[name], tensors[name]) for name in tensors):
            raise UserError(f"{path}: does not contain what was written. Check the disk, then start again.")

    layout.by_first(lambda: write_tensors(path, tensors, {**metadata, **adapter.metadata()}, check=check))


def _as_written(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the number format of the file; counts and shapes keep theirs."""
    return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()


def _same(written: Any, own: Tensor) -> bool:
    return written.dtype == own.dtype and torch.equal(written, own)


def load_adapter(
    path: Path, adapter: Adapter, *, load_lora: Callable[[StateDict, dict[str, str]], None] | None = None
) -> None:
    """Load the weights of an adapter file.

    Args:
        path: the file.
        adapter: the adapter.
        load_lora: takes the tensors of a LoRA in the same file, and its header; None if the job has no use for one.

    Raises:
        UserError: the file is damaged, or of another adapter, model or encoder; or it also holds a LoRA, and the job
            has no use for it.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    beside = adapter.lora_beside(tensors)
    if beside and load_lora is None:
        raise UserError(
            f"{path}: also holds a LoRA ({len(beside)} tensors, such as {next(iter(beside))}), which belongs to the "
            "adapter. Train a `network` together with the adapter, without `pretrained_lora_path`."
        )
    own = {name: tensor for name, tensor in tensors.items() if name not in beside}
    adapter.load_state_dict(own, metadata, source=str(path))
    if beside and load_lora is not None:
        load_lora(beside, metadata)
