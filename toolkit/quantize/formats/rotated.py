"""Formats that round a rotated weight: a rotation spreads outliers over their neighbours, so that steps are smaller."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.quantize.formats.format import Buffers, Format, by_rows
from toolkit.quantize.formats.fp4 import NVFP4 as _NVFP4
from toolkit.quantize.formats.groups import INT4
from toolkit.quantize.formats.rows import INT8 as _INT8
from toolkit.quantize.formats.shards import INT3, INT5, INT6, INT7, TERNARY

LARGEST = 256  # sizes of rotations are powers of 4
_WEIGHTS_AT_ONCE = 1 << 22  # rotated back at once


@dataclass(frozen=True)
class Rotated:
    """Each `LARGEST` neighbours of a row are rotated before they are rounded, and back when they are used.

    The rotation is the regular Hadamard matrix, whose rows all have the same sum: unlike the standard one, it does not
    collect the mean of a block in one place. Source: ConvRot (arXiv 2512.03673), which rotates activations instead of
    rotating back. The weight that a layer multiplies with is the same up to rounding.

    Attributes:
        inner: the format that rounds the rotated weight.
    """

    inner: Format

    def quantize(self, weight: Tensor) -> Buffers:
        """The buffers of `inner`."""
        rotated = by_rows(weight, lambda rows: {"rows": rotate(rows.float())})["rows"]
        return self.inner.quantize(rotated)

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        weight = self.inner.dequantize(buffers, in_features=in_features, dtype=dtype)
        for rows in weight.split(max(1, _WEIGHTS_AT_ONCE // in_features)):
            rows.copy_(rotate(rows))
        return weight


def rotate(rows: Tensor) -> Tensor:
    """Rows [N, K] with each block of neighbours rotated; doing it twice gives the rows again."""
    size = block_size(rows.shape[1])
    if size == 1:
        return rows
    return (rows.unflatten(1, (-1, size)) @ _hadamard(size, rows.dtype, rows.device)).flatten(1)


def block_size(in_features: int) -> int:
    """The largest power of 4, at most `LARGEST`, that divides the length of a row."""
    size = 1
    while size < LARGEST and in_features % (4 * size) == 0:
        size *= 4
    return size


@functools.cache
def _hadamard(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The regular Hadamard matrix of a power of 4, orthonormal and symmetric; its entries are exact in bf16."""
    base = torch.ones(4, 4) - 2 * torch.eye(4).flip(1)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, base)
    return (matrix / size**0.5).to(device, dtype)


INT8 = Rotated(_INT8)
ROTATED_7, ROTATED_6, ROTATED_5, ROTATED_3 = map(Rotated, (INT7, INT6, INT5, INT3))
ROTATED_4 = Rotated(INT4)
ROTATED_TERNARY = Rotated(TERNARY)
NVFP4 = Rotated(_NVFP4)
