"""Prompt embeddings in fewer bytes, without losing a bit.

Two savings, both exact. Rows that repeat at either end are kept once (`fold`, in memory and on disk): where padding
stands before the prompt, a causal text encoder sees nothing there, and all padding of all prompts is one and the same
row. And the bytes that hold sign and exponent take few values, so on disk they are Huffman-coded (`pack`); the
mantissa's bytes are noise and stay as they are. Decoding takes 38 ms for 512 rows of 15360 bf16 numbers, on one core:
too long for every step, so what has been read from disk is kept folded.

Padding after the prompt sees the prompt, and its position: such rows differ from each other and from prompt to prompt,
and only the text encoder could make them again. They are kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_WORTH_CODING = 0.95  # a coded plane must be smaller than this share of the plain one: reading it takes longer


@dataclass(frozen=True)
class Folded:
    """Embeddings [L, D] whose repeated rows are kept once.

    Attributes:
        rows: the others, with one row of each run, [kept, D].
        leading: how often the first of them stands at the beginning, at least 1.
        trailing: how often the last stands at the end; 0 if all rows are the same.
    """

    rows: Tensor
    leading: int
    trailing: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.rows.nbytes

    def tensor(self) -> Tensor:
        """The whole tensor, [L, D], bit for bit."""
        head = self.rows[:1].expand(self.leading - 1, -1)
        tail = self.rows[-1:].expand(max(self.trailing - 1, 0), -1)
        return torch.cat([head, self.rows, tail])


def fold(embeds: Tensor) -> Folded:
    """Embeddings without their repeated rows, as a copy.

    Args:
        embeds: [L, D], L at least 1, on the CPU.
    """
    assert embeds.ndim == 2 and len(embeds) > 0, f"prompt embeddings are [L, D], not {tuple(embeds.shape)}"
    leading = _run_length(embeds)
    trailing = _run_length(embeds[leading:].flip(0)) if leading < len(embeds) else 0
    rows = embeds[leading - 1 : len(embeds) - max(trailing - 1, 0)]
    return Folded(rows.clone(memory_format=torch.contiguous_format), leading, trailing)


def pack(embeds: Tensor) -> dict[str, Tensor]:
    """The parts that `unpack` makes the tensor from.

    Args:
        embeds: [L, D], L at least 1, on the CPU.

    Returns:
        `like`, empty, [0, D]; `repeats`, how often the first and the last kept row stand there, [2]; and byte i of
        every number of the kept rows as `plane_i` or, coded, `coded_i`.
    """
    folded = fold(embeds)
    rows = folded.rows
    repeats = torch.tensor([folded.leading, folded.trailing])
    parts = {"like": embeds.new_empty((0, embeds.shape[1])), "repeats": repeats}
    planes = rows.view(torch.uint8).reshape(-1, rows.element_size()).T.contiguous()  # [bytes per number, numbers]
    for index, plane in enumerate(planes):
        coder = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
        coded = coder.compress(plane.numpy().data) + coder.flush()
        if len(coded) < _WORTH_CODING * len(plane):
            parts[f"coded_{index}"] = torch.frombuffer(bytearray(coded), dtype=torch.uint8)
        else:
            parts[f"plane_{index}"] = plane.clone()
    return parts


def unpack(parts: Mapping[str, Tensor]) -> Folded:
    """What `pack` was given, bit for bit; still folded, to be kept."""
    like = parts["like"]
    planes = [_plane(parts, index) for index in range(like.element_size())]
    rows = torch.stack(planes, dim=1).reshape(-1).view(like.dtype).reshape(-1, like.shape[1])
    leading, trailing = (int(count) for count in parts["repeats"])
    return Folded(rows, leading, trailing)


def _run_length(rows: Tensor) -> int:
    """How many rows at the beginning are the same, bit for bit."""
    same = (rows.view(torch.uint8) == rows[:1].view(torch.uint8)).all(dim=1)
    return len(rows) if bool(same.all()) else int(torch.argmin(same.to(torch.uint8)))


def _plane(parts: Mapping[str, Tensor], index: int) -> Tensor:
    if f"plane_{index}" in parts:
        return parts[f"plane_{index}"]
    plain = zlib.decompress(parts[f"coded_{index}"].numpy().data)
    return torch.from_numpy(np.frombuffer(bytearray(plain), dtype=np.uint8))
