"""A LoRA added to the weights of its model: a copy of the model's files, changed in place one weight at a time."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import torch

from toolkit.errors import UserError
from toolkit.files import whole_file, whole_folder
from toolkit.lora.files import LoraFile, read_lora_file
from toolkit.lora.parse import PREFIXES
from toolkit.lora.update import Location
from toolkit.weights.tensor_index import TensorIndex, index_tensors

# Number formats of safetensors in which a weight can be added to.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def merge(lora: Path, base: Path, output: Path, *, weight: float = 1.0, arch: str | None = None) -> list[str]:
    """Write the model `base + weight * lora` in the layout of the base. Needs memory for one weight.

    Args:
        lora: file of any known format.
        base: a safetensors file in the released layout or in diffusers', or a folder of such files as diffusers
            writes (sharded or not; everything else in it is copied).
        output: file or folder, as the base.
        weight: strength; finite.
        arch: see `read_lora_file`.

    Raises:
        UserError: the base lacks a layer of the LoRA, has it in another shape, or is quantized.
    """
    if not math.isfinite(weight):
        raise UserError(f"--weight {weight}: give a number.")
    source = read_lora_file(lora, arch=arch)
    if base.is_dir():
        indices = {path.name: index_tensors([path]) for path in sorted(base.glob("*.safetensors"))}
        with whole_folder(output) as temporary:
            shutil.copytree(base, temporary, dirs_exist_ok=True)
            changed = [_add(temporary / name, index, source, weight) for name, index in indices.items()]
            _check_all(changed, source, base)
    elif base.is_file():
        index = index_tensors([base])
        with whole_file(output) as temporary:
            shutil.copyfile(base, temporary)
            changed = [_add(temporary, index, source, weight)]
            _check_all(changed, source, base)
    else:
        raise UserError(f"{base}: no such file or folder (--base).")
    return [f"{output}: {len(source.updates)} layers of {lora} added at weight {weight:g}"]


def _add(path: Path, index: TensorIndex, source: LoraFile, weight: float) -> dict[Location, str]:
    """Change the copy of an indexed file in place. Returns the changed layers with their names."""
    done: dict[Location, str] = {}
    with path.open("r+b") as file:
        for key, entry in index.entries.items():
            where = _locate(key, source)
            delta = None if where is None else where.delta(source.updates)
            if where is None or delta is None:
                continue
            if entry.dtype not in _DTYPES:
                raise UserError(f"{key}: is stored as {entry.dtype}. Merge into bf16, fp16 or fp32 weights.")
            if delta.shape != entry.shape:
                raise UserError(
                    f"{key}: has shape {list(entry.shape)}, the LoRA is for {list(delta.shape)}: another model's."
                )
            file.seek(entry.offset)
            value = torch.frombuffer(bytearray(file.read(entry.num_bytes)), dtype=_DTYPES[entry.dtype])
            merged = (value.view(delta.shape).float() + weight * delta).to(value.dtype)
            file.seek(entry.offset)
            file.write(np.ascontiguousarray(merged.view(torch.uint8).numpy()).tobytes())
            done[where] = key
    return done


def _locate(key: str, source: LoraFile) -> Location | None:
    if not key.endswith(".weight"):
        return None
    for prefix in PREFIXES:
        if key.startswith(prefix) and (where := source.model.locate_layer(key.removeprefix(prefix)[: -len(".weight")])):
            return where
    return None


def _check_all(changed: list[dict[Location, str]], source: LoraFile, base: Path) -> None:
    parts: dict[str, float] = {}
    for where in (where for file in changed for where in file):
        for target, share in where.shares().items():
            parts[target] = parts.get(target, 0.0) + share
    missing = sorted(target for target in source.updates if round(parts.get(target, 0.0), 6) != 1)
    if missing:
        raise UserError(
            f"{base}: lacks {len(missing)} of the {len(source.updates)} layers that the LoRA changes, such as "
            f"{missing[0]}. Is it the transformer of the model that the LoRA was made for?"
        )
