"""A LoRA added to the weights of its model: a copy of the model's files, changed in place one weight at a time."""

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

# Number formats of safetensors in which a weight can be added to.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def merge(
    lora: Path, base: Path, output: Path, *, weight: float = 1.0, arch: str | None = None, without: tuple[str, ...] = ()
) -> list[str]:
    """Write the model `base + weight * (W' - W)` in the layout of the base. Needs memory for one weight.

    Args:
        lora: file of any known format and kind.
        base: a safetensors file in the released layout or in diffusers', or a folder of such files as diffusers
            writes (sharded or not; everything else in it is copied).
        output: file or folder, as the base.
        weight: strength; finite.
        arch: see `read_adapter_file`.
        without: see `read_adapter_file`.

    Raises:
        UserError: the base lacks a layer of the LoRA, has it in another shape, or is quantized.
    """
    if not math.isfinite(weight):
        raise UserError(f"--weight {weight}: give a number.")
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
    """Files of a model and their copies, which are changed."""

    def __init__(self, files: list[Path], copies: list[Path], weight: float) -> None:
        self.weight = weight
        self.entries: dict[str, tuple[Entry, Path, Path]] = {}
        for path, copy in zip(files, copies, strict=True):
            self.entries |= {key: (entry, path, copy) for key, entry in index_tensors([path]).entries.items()}

    def add(self, source: AdapterFile, base: Path) -> None:
        """Change the copies by all that the file says."""
        changes = source.changes
        weights, biases = self._rows(".weight", source), self._rows(".bias", source)
        places: list[tuple[Location | str, list[Rows], Callable[[Tensor], Tensor]]] = []
        for where, change in changes.weights.items():
            places.append((where, weights.find(where), change.delta))
        for where, bias in changes.biases.items():
            places.append((where, biases.find(where), _plain(bias)))
        for name, diff in changes.others.items():
            places.append((name, self._by_name(name), _plain(diff)))
        if missing := _targets(where for where, rows, _ in places if not rows):
            total = _targets(where for where, _, _ in places)
            raise UserError(
                f"{base}: lacks {len(missing)} of the {len(total)} layers that the LoRA changes, such as "
                f"{missing[0]}. Is it the transformer of the model that the LoRA was made for?"
            )
        for _, rows, delta_of in places:
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
            raise UserError(f"{keys}: have different shapes: another model's.")
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
            raise UserError(f"{rows.key}: is stored as {entry.dtype}. Merge into bf16, fp16 or fp32 weights.")
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
            raise ValueError(f"has shape {list(value.shape)}, the file is for {list(added.shape)}: another model's")
        return added.float()

    return delta


def _targets(places: Iterable[Location | str]) -> list[str]:
    """The names of the released model's layers that places are of, each once."""
    names = ((place,) if isinstance(place, str) else place.shares() for place in places)
    return list(dict.fromkeys(name for group in names for name in group))
