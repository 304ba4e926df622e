"""The tensors of one or more safetensors files: their shapes at once, their values one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One tensor: its file, its name there, its shape, and its number format as safetensors spells it."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


class TensorIndex:
    """What is in safetensors files, by name, in the order of the bytes."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    def read(self, name: str, *, device: torch.device | None = None) -> Tensor:
        """One tensor: on the CPU a view of the mapped file, to be copied or let go soon.

        The file is opened anew each time. A mapping that stays open keeps every page that was read in the process.
        """
        entry = self.entries[name]
        with _opened(entry.path) as file:
            tensor = file.get_tensor(entry.name)
        return tensor if device is None else tensor.to(device)

    def under(self, prefix: str) -> TensorIndex:
        """Only the tensors whose names begin with `prefix`, without it."""
        return TensorIndex({k.removeprefix(prefix): v for k, v in self.entries.items() if k.startswith(prefix)})

    def without(self, names: set[str]) -> TensorIndex:
        """All tensors but these."""
        return TensorIndex({name: entry for name, entry in self.entries.items() if name not in names})


def index_tensors(paths: Sequence[Path]) -> TensorIndex:
    """Read the headers of safetensors files.

    Raises:
        UserError: a file is absent, truncated or no safetensors file, or two files have the same tensor.
    """
    entries: dict[str, Entry] = {}
    for path in paths:
        with _opened(path) as file:
            for name in file.offset_keys():
                if name in entries:
                    raise UserError(f"{path}: has `{name}`, and so has {entries[name].path}. Remove one of the files.")
                view = file.get_slice(name)
                entries[name] = Entry(path, name, tuple(view.get_shape()), view.get_dtype())
    return TensorIndex(entries)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read as safetensors ({error}). It is damaged or was not downloaded to the end "
            f"({path.stat().st_size:,} bytes): download it again."
        ) from error
