"""Merges LoRAs into their model: copies the model's files and changes the copies in place, one weight at a time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.files import whole_file, whole_folder
from toolkit.lora.commands.model_weights import ModelWeights, files_of
from toolkit.lora.files import AdapterFile, read_adapter_file
from toolkit.lora.keys import strip_prefix
from toolkit.lora.rows import RowMap, Rows
from toolkit.lora.update import Location, must_be_finite_tensor


def merge(
    loras: Sequence[Path],
    base: Path,
    output: Path,
    *,
    weights: Sequence[float],
    arch: str | None = None,
    without: tuple[str, ...] = (),
) -> list[str]:
    """Write `base + sum of weight * (W' - W)` in the layout of the base. Needs memory for one weight at a time.

    Each change is computed from the weights of the base, so the order of the files makes no difference.

    Args:
        loras: LoRA files, or any other files that `read_adapter_file` can read.
        base: a safetensors file in the released or the diffusers layout, or a diffusers folder of such files (sharded
            or not; everything else in the folder is copied).
        output: the file or folder to write, whichever the base is.
        weights: strength of each file; must be finite.
        arch: see `read_adapter_file`.
        without: see `read_adapter_file`.

    Raises:
        UserError: the base lacks a layer that a file changes, has it in another shape, or is quantized.
    """
    for weight in weights:
        if not math.isfinite(weight):
            raise UserError(f"--weight {weight}: must be a finite number.")
    sources = [read_adapter_file(lora, arch=arch, without=without) for lora in loras]
    if base.is_dir():
        files = files_of(base)
        with whole_folder(output) as temporary:
            shutil.copytree(base, temporary, dirs_exist_ok=True)
            _add_all(sources, weights, base, files, [temporary / path.relative_to(base) for path in files])
    elif base.is_file():
        with whole_file(output) as temporary:
            shutil.copyfile(base, temporary)
            _add_all(sources, weights, base, [base], [temporary])
    else:
        raise UserError(f"{base}: no such file or folder (--base).")
    lines = []
    for source, weight in zip(sources, weights, strict=True):
        changes = source.changes
        count = len(_targets([*changes.weights, *changes.biases, *changes.others]))
        kinds = ", ".join(changes.kinds())
        lines.append(f"{output}: {count} layers of {source.path} ({kinds}) added at weight {weight:g}")
    return lines


def _add_all(
    sources: Sequence[AdapterFile], weights: Sequence[float], base: Path, files: list[Path], copies: list[Path]
) -> None:
    for source, weight in zip(sources, weights, strict=True):
        _Merge(files, copies, weight).add(source, base)


class _Merge:
    """The files of a model, and the copies that receive the changes."""

    def __init__(self, files: list[Path], copies: list[Path], weight: float) -> None:
        self.weight = weight
        self.base = ModelWeights(files)
        self.copies = dict(zip(files, copies, strict=True))

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
        return self.base.rows(suffix, source.model.locate_layer)

    def _by_name(self, name: str) -> list[Rows]:
        names = {name, f"{name}.weight", f"{name}.scale"}
        return [
            Rows(key, 0, entry.shape[0])
            for key, (entry, _) in self.base.entries.items()
            if entry.shape and strip_prefix(key, lambda _: None)[0] in names
        ][:1]

    def _change(self, rows: list[Rows], delta_of: Callable[[Tensor], Tensor]) -> None:
        keys = ", ".join(dict.fromkeys(part.key for part in rows))
        try:
            delta = self.weight * delta_of(self.base.layer(rows))
        except ValueError as error:
            raise UserError(f"{keys}: {error}.") from error
        must_be_finite_tensor(delta, keys, source="the change")
        sizes = [part.stop - part.start for part in rows]
        for part, added in zip(rows, delta.split(sizes), strict=True):
            # From the copy, which has the changes of other files.
            piece = self.base.read(part, copy=self.copies[self.base.entries[part.key][1]])
            self._write(part, (piece.float() + added).to(piece.dtype))

    def _write(self, rows: Rows, value: Tensor) -> None:
        entry, path = self.base.entries[rows.key]
        with self.copies[path].open("r+b") as file:
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
