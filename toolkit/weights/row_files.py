"""Tensors whose rows are spread over several safetensors files, read as if they were in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.weights.tensor_index import index_tensors


class RowFiles:
    """One or more files with the same names, each with some rows of every tensor, in order.

    Raises:
        UserError: a file is missing, truncated or not a safetensors file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._indexes = [index_tensors([path]) for path in paths]

    def __iter__(self) -> Iterator[str]:
        """The names of the tensors."""
        return iter(self._indexes[0].entries)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The shape of a tensor in each of the files."""
        return [index.entries[name].shape for index in self._indexes]

    def read_piece(self, name: str, file: int) -> Tensor:
        """What one of the files has of a tensor, as a view of it: copy it soon."""
        return self._indexes[file].read(name)

    def num_rows(self, name: str) -> int:
        """Number of rows of a tensor in all files together."""
        return sum(shape[0] for shape in self.shapes(name))

    def read(self, name: str, rows: slice) -> Tensor:
        """Some rows of a tensor; others are not read."""
        shape, dtype = self.shapes(name)[0], self.read_piece(name, 0).dtype
        result = torch.empty((rows.stop - rows.start, *shape[1:]), dtype=dtype)
        start = 0  # of the file's rows
        for file, (count, *_) in enumerate(self.shapes(name)):
            low, high = max(rows.start, start), min(rows.stop, start + count)
            if low < high:
                result[low - rows.start : high - rows.start] = self.read_piece(name, file)[low - start : high - start]
            start += count
        return result
