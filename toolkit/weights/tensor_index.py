"""Index of the tensors in one or more safetensors files: all shapes up front, values read one tensor at a time."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from toolkit.errors import UserError
from toolkit.weights.tensor_files import reading

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}

LONGEST = 1 << 40  # an empty tensor may claim any length, and torch fails above 2**63


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        path: path of the file.
        name: name of the tensor in the file.
        shape: shape of the tensor.
        dtype: number format as safetensors spells it, such as `BF16`.
        offset: position of the tensor's first byte in the file.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def torch_dtype(self) -> torch.dtype:
        """The tensor's number format."""
        return DTYPES[self.dtype]

    @property
    def num_bytes(self) -> int:
        """The tensor's size in the file."""
        return math.prod(self.shape) * self.torch_dtype.itemsize


class TensorIndex:
    """The tensors of safetensors files by name, in the order in which they are stored."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    def read(self, name: str) -> Tensor:
        """One tensor, as a view of its bytes in the mapped file: copy it soon. Dropping it frees the memory."""
        entry = self.entries[name]
        if not entry.num_bytes:
            return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        # Map as uint8 first: the tensor may not be aligned to its type.
        tensor = map_bytes(entry.path, entry.offset, entry.num_bytes)
        if entry.offset % DTYPES[entry.dtype].itemsize:
            tensor = tensor.clone()
        return tensor.view(DTYPES[entry.dtype]).reshape(entry.shape)

    def under(self, prefix: str) -> TensorIndex:
        """Only the tensors whose names start with `prefix`, which is removed."""
        return TensorIndex({k.removeprefix(prefix): v for k, v in self.entries.items() if k.startswith(prefix)})

    def without(self, names: set[str]) -> TensorIndex:
        """All tensors except these."""
        return TensorIndex({name: entry for name, entry in self.entries.items() if name not in names})


def map_bytes(path: Path, offset: int, num_bytes: int) -> Tensor:
    """Some bytes of a file, [num_bytes], uint8, which the system reads when they are used and shares with its cache.

    Only these bytes are mapped. The safetensors library maps the whole file for writing, which Linux refuses for files
    larger than memory, and keeps the pages in memory until the file is closed. What is written to the tensor does not
    reach the file.
    """
    before = offset % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), before + num_bytes, offset=offset - before, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapped, dtype=torch.uint8, offset=before)


def index_tensors(paths: Sequence[Path]) -> TensorIndex:
    """Read the headers of safetensors files.

    Raises:
        UserError: a file is missing, truncated or not a safetensors file, or two files have the same tensor.
    """
    entries: dict[str, Entry] = {}
    for path in paths:
        for entry in _entries_of(path):
            if entry.name in entries:
                other = entries[entry.name].path
                raise UserError(f"{path}: `{entry.name}` is also in {other}. Remove one of the files.")
            entries[entry.name] = entry
    return TensorIndex(entries)


def _entries_of(path: Path) -> list[Entry]:
    found = []
    with reading(path):
        with path.open("rb") as raw:
            offset = 8 + int.from_bytes(raw.read(8), "little")  # the first tensor follows the header and its length
        with safe_open(path, framework="np") as file:  # checks that the tensors fill the file without gaps
            for name in file.offset_keys():
                view = file.get_slice(name)
                found.append(Entry(path, name, tuple(view.get_shape()), view.get_dtype(), offset))
                if found[-1].dtype not in DTYPES:
                    raise UserError(
                        f"{path}: `{name}` has the unsupported number format {found[-1].dtype}. Use the bf16 file of "
                        "this model."
                    )
                if max(found[-1].shape, default=0) > LONGEST:
                    raise UserError(f"{path}: `{name}` has shape {list(found[-1].shape)}: the file is damaged.")
                offset += found[-1].num_bytes
        return found
