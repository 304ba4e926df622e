"""Merges a LoRA into its model: copies the model's files and changes the copies in place, one weight at a time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import whole_file, whole_folder
from toolkit.lora.files import AdapterFile, read_adapter_file
from toolkit.lora.keys import strip_prefix
from toolkit.lora.rows import RowMap, Rows
from toolkit.lora.update import Location, must_be_finite_tensor
from toolkit.weights.tensor_index import Entry, index_tensors

# Safetensors number formats of weights that can be merged into.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def merge(
    lora: Path, base: Path, output: Path, *, weight: float = 1.0, arch: str | None = None, without: tuple[str, ...] = ()
) -> list[str]:
    """Write the model `base + weight * (W' - W)` in the layout of the base. Needs memory for one weight at a time.

    Args:
        lora: a LoRA file, or any other file that `read_adapter_file` can read.
        base: a safetensors file in the released or the diffusers layout, or a diffusers folder of such files (sharded
            or not; everything else in the folder is copied).
        output: the file or folder to write, whichever the base is.
        weight: strength of the LoRA; must be finite.
        arch: see `read_adapter_file`.
        without: see `read_adapter_file`.

    Raises:
        UserError: the base lacks a layer that the LoRA changes, has it in another shape, or is quantized.
    """
    if not math.isfinite(weight):
        raise UserError(f"--weight {weight}: must be a finite number.")
    source = read_adapter_file(lora, arch=arch, without=without)
    if base.is_dir():
        files = sorted(base.glob("*.safetensors"))
        with whole_folder(output) as temporary:
            shutil.copytree(base, temporary, dirs_exist_ok=True)
            _Merge(files, [temporary / path.name for path in files], weight).add(source, base)
    elif base.is_file():
        with whole_file(output) as temporary:
            shutil.copyfile(base, temporary)
            _Merge([base], [temporary], weight).add(source, base)
    else:
        raise UserError(f"{base}: no such file or folder (--base).")
    changes = source.changes
    count = len(_targets([*changes.weights, *changes.biases, *changes.others]))
    return [f"{output}: {count} layers of {lora} ({', '.join(changes.kinds())}) added at weight {weight:g}"]


class _Merge:
    """The files of a model, and the copies that receive the changes."""

    def __init__(self, files: list[Path], copies: list[Path], weight: float) -> None:
        self.weight = weight
        self.entries: dict[str, tuple[Entry, Path, Path]] = {}
        for path, copy in zip(files, copies, strict=True):
            self.entries |= {key: (entry, path, copy) for key, entry in index_tensors([path]).entries.items()}

    def add(self, source: AdapterFile, base: Path) -> None:
        """Apply all changes of the file to the copies."""
        changes = source.changes
        weights, biases = self._rows(".weight", source), self._rows(".bias", source)
        edits: list[tuple[Location | str, list[Rows], Callable[[Tensor], Tensor]]] = []
        for where, change in changes.weights.items():
            edits.append((where, weights.find(where), change.delta))
        for where, bias in changes.biases.items():
            edits.append((where, biases.find(where), _plain(bias)))
        for name, diff in changes.others.items():
            edits.append((name, self._by_name(name), _plain(diff)))
        if missing := _targets(where for where, rows, _ in edits if not rows):
            total = _targets(where for where, _, _ in edits)
            raise UserError(
                f"{base}: lacks {len(missing)} of the {len(total)} layers that the LoRA changes, such as "
                f"{missing[0]}. Is it the transformer of the model that the LoRA was made for?"
            )
        for _, rows, delta_of in edits:
            self._change(rows, delta_of)

    def _rows(self, suffix: str, source: AdapterFile) -> RowMap:
        layers = {}
        for key, (entry, _, _) in self.entries.items():
            if key.endswith(suffix) and entry.shape:
                _, where = strip_prefix(key.removesuffix(suffix), source.model.locate_layer)
                if where is not None:
                    layers[key] = (where, entry.shape[0])
        return RowMap(layers)

    def _by_name(self, name: str) -> list[Rows]:
        names = {name, f"{name}.weight", f"{name}.scale"}
        return [
            Rows(key, 0, entry.shape[0])
            for key, (entry, _, _) in self.entries.items()
            if entry.shape and strip_prefix(key, lambda _: None)[0] in names
        ][:1]

    def _change(self, rows: list[Rows], delta_of: Callable[[Tensor], Tensor]) -> None:
        pieces = [self._read(part) for part in rows]
        keys = ", ".join(dict.fromkeys(part.key for part in rows))
        if len({piece.shape[1:] for piece in pieces}) > 1:
            raise UserError(f"{keys}: these weights must have equal shapes. The base is probably another model.")
        try:
            delta = self.weight * delta_of(torch.cat([piece.float() for piece in pieces]))
        except ValueError as error:
            raise UserError(f"{keys}: {error}.") from error
        must_be_finite_tensor(delta, keys, source="the change")
        sizes = [len(piece) for piece in pieces]
        for part, piece, added in zip(rows, pieces, delta.split(sizes), strict=True):
            self._write(part, (piece.float() + added).to(piece.dtype))

    def _read(self, rows: Rows) -> Tensor:
        entry, path, _ = self.entries[rows.key]
        if entry.dtype not in _DTYPES:
            raise UserError(
                f"{rows.key}: stored as {entry.dtype}. Only bf16, fp16 and fp32 weights can be merged into."
            )
        width = entry.num_bytes // max(1, entry.shape[0])
        with path.open("rb") as file:
            file.seek(entry.offset + rows.start * width)
            data = bytearray(file.read((rows.stop - rows.start) * width))
        return torch.frombuffer(data, dtype=_DTYPES[entry.dtype]).view(-1, *entry.shape[1:])

    def _write(self, rows: Rows, value: Tensor) -> None:
        entry, _, copy = self.entries[rows.key]
        with copy.open("r+b") as file:
            file.seek(entry.offset + rows.start * (entry.num_bytes // entry.shape[0]))
            file.write(np.ascontiguousarray(value.contiguous().view(torch.uint8).numpy()).tobytes())


def _plain(added: Tensor) -> Callable[[Tensor], Tensor]:
    def delta(value: Tensor) -> Tensor:
        if value.shape != added.shape:
            raise ValueError(
                f"has shape {list(value.shape)}, but the file is for {list(added.shape)}, probably of another model"
            )
        return added.float()

    return delta


def _targets(locations: Iterable[Location | str]) -> list[str]:
    """The distinct names, in the released model, of the layers at these locations."""
    names = ((where,) if isinstance(where, str) else where.shares() for where in locations)
    return list(dict.fromkeys(name for group in names for name in group))
