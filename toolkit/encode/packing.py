"""Prompt embeddings in fewer bytes, without losing a bit.

Two savings, both exact. Rows that repeat at either end are kept once: where padding stands before the prompt, a causal
text encoder sees nothing there, and all padding of all prompts is one and the same row. And the bytes that hold sign
and exponent take few values, so they are Huffman-coded; the mantissa's bytes are noise and stay as they are.

Padding after the prompt sees the prompt, and its position: such rows differ from each other and from prompt to prompt,
and only the text encoder could make them again. They are kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_WORTH_CODING = 0.95  # a coded plane must be smaller than this share of the plain one: reading it takes longer


def pack(embeds: Tensor) -> dict[str, Tensor]:
    """The parts that `unpack` makes the tensor from.

    Args:
        embeds: [L, D], L at least 1, on the CPU.

    Returns:
        `like`, empty, [0, D]; `repeats`, how often the first and the last kept row stand there, [2]; and byte i of
        every number of the kept rows as `plane_i` or, coded, `coded_i`.
    """
    assert embeds.ndim == 2 and len(embeds) > 0, f"prompt embeddings are [L, D], not {tuple(embeds.shape)}"
    leading = _run_length(embeds)
    trailing = _run_length(embeds[leading:].flip(0)) if leading < len(embeds) else 0
    rows = embeds[leading - 1 : len(embeds) - max(trailing - 1, 0)].contiguous()
    parts = {"like": embeds.new_empty((0, embeds.shape[1])), "repeats": torch.tensor([leading, trailing])}
    planes = rows.view(torch.uint8).reshape(-1, rows.element_size()).T.contiguous()  # [bytes per number, numbers]
    for index, plane in enumerate(planes):
        coder = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
        coded = coder.compress(plane.numpy().data) + coder.flush()
        if len(coded) < _WORTH_CODING * len(plane):
            parts[f"coded_{index}"] = torch.frombuffer(bytearray(coded), dtype=torch.uint8)
        else:
            parts[f"plane_{index}"] = plane.clone()
    return parts


def unpack(parts: Mapping[str, Tensor]) -> Tensor:
    """The tensor that `pack` was given, bit for bit."""
    like = parts["like"]
    planes = [_plane(parts, index) for index in range(like.element_size())]
    rows = torch.stack(planes, dim=1).reshape(-1).view(like.dtype).reshape(-1, like.shape[1])
    leading, trailing = (int(count) for count in parts["repeats"])
    head = rows[:1].expand(leading - 1, -1)
    tail = rows[-1:].expand(max(trailing - 1, 0), -1)
    return torch.cat([head, rows, tail])


def packed_bytes(parts: Mapping[str, Tensor]) -> int:
    """Memory that the parts take."""
    return sum(tensor.nbytes for tensor in parts.values())


def _run_length(rows: Tensor) -> int:
    """How many rows at the beginning are the same, bit for bit."""
    same = (rows.view(torch.uint8) == rows[:1].view(torch.uint8)).all(dim=1)
    return len(rows) if bool(same.all()) else int(torch.argmin(same.to(torch.uint8)))


def _plane(parts: Mapping[str, Tensor], index: int) -> Tensor:
    if f"plane_{index}" in parts:
        return parts[f"plane_{index}"]
    plain = zlib.decompress(parts[f"coded_{index}"].numpy().data)
    return torch.from_numpy(np.frombuffer(bytearray(plain), dtype=np.uint8))
