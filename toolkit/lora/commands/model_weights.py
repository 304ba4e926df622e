"""The weights of a model's files on disk, found by layer whatever the layout, and read a few rows at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.keys import strip_prefix
from toolkit.lora.rows import RowMap, Rows
from toolkit.lora.update import Locate, Location
from toolkit.weights.tensor_index import Entry, index_tensors

# Safetensors number formats of weights that can be changed.
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def files_of(model: Path) -> list[Path]:
    """The safetensors files of a model: the file itself, or those of the transformer in a diffusers folder.

    Raises:
        UserError: there is no such file or folder.
    """
    if model.is_dir():
        inner = model / "transformer" if (model / "model_index.json").is_file() else model
        if files := sorted(inner.glob("*.safetensors")):
            return files
        raise UserError(f"{inner}: has no safetensors files.")
    if model.is_file():
        return [model]
    raise UserError(f"{model}: no such file or folder.")


class ModelWeights:
    """The tensors of a model's files.

    Attributes:
        entries: where each tensor is, by key: its entry and its file.
    """

    def __init__(self, files: list[Path]) -> None:
        self.entries: dict[str, tuple[Entry, Path]] = {}
        for path in files:
            self.entries |= {key: (entry, path) for key, entry in index_tensors([path]).entries.items()}

    def located(self, suffix: str, locate: Locate) -> dict[str, tuple[Location, int]]:
        """Location and number of rows of the tensors of linear layers whose key ends in `suffix`, by key."""
        layers = {}
        for key, (entry, _) in self.entries.items():
            if key.endswith(suffix) and entry.shape:
                _, where = strip_prefix(key.removesuffix(suffix), locate)
                if where is not None:
                    layers[key] = (where, entry.shape[0])
        return layers

    def rows(self, suffix: str, locate: Locate) -> RowMap:
        """Finds the rows of the tensors whose key ends in `suffix`."""
        return RowMap(self.located(suffix, locate))

    def read(self, rows: Rows, *, copy: Path | None = None) -> Tensor:
        """Some rows of a tensor, in its number format; from a changed copy of its file if one is given.

        Raises:
            UserError: the tensor is quantized.
        """
        entry, path = self.entries[rows.key]
        if entry.dtype not in DTYPES:
            raise UserError(
                f"{rows.key}: stored as {entry.dtype}. Only bf16, fp16 and fp32 weights can be merged into."
            )
        width = entry.num_bytes // max(1, entry.shape[0])
        with (copy or path).open("rb") as file:
            file.seek(entry.offset + rows.start * width)
            data = bytearray(file.read((rows.stop - rows.start) * width))
        return torch.frombuffer(data, dtype=DTYPES[entry.dtype]).view(-1, *entry.shape[1:])

    def layer(self, found: list[Rows]) -> Tensor:
        """The whole weight whose rows these are, fp32.

        Raises:
            UserError: see `read`; also if the rows differ in length.
        """
        pieces = [self.read(part) for part in found]
        if len({piece.shape[1:] for piece in pieces}) > 1:
            keys = ", ".join(dict.fromkeys(part.key for part in found))
            raise UserError(f"{keys}: these weights must have equal shapes. The base is probably another model.")
        return torch.cat([piece.float() for piece in pieces])
