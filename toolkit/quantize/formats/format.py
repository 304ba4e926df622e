"""What every format can do: weight to buffers, buffers to weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Buffers = dict[str, Tensor]
# Rows that are rounded at once: an fp32 copy of them and a few of their size are all the memory it takes.
_WEIGHTS_AT_ONCE = 1 << 20


class Format(Protocol):
    """A number format. Plain tensors go in and out, so buffers can be moved, packed and stored like any others.

    Floats that `module.to(dtype)` must not touch are kept as the integers of their bits.
    """

    def quantize(self, weight: Tensor) -> Buffers:
        """The buffers of a weight [N, K] of any float dtype, on its device; `qweight` [N, ...] is among them."""
        ...

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """The weight [N, K = in_features] in `dtype` that the buffers stand for; reads them, changes nothing."""
        ...


def by_rows(weight: Tensor, quantize: Callable[[Tensor], Buffers]) -> Buffers:
    """Quantize a weight [N, K] a few rows at a time; what each call returns has a row for each of its rows."""
    num_rows = weight.shape[0]
    parts = weight.tensor_split(max(1, min(num_rows // 2, weight.numel() // _WEIGHTS_AT_ONCE)))
    result: Buffers = {}
    start = 0
    for part in parts:
        for name, rows in quantize(part).items():
            whole = result.setdefault(name, rows.new_empty((num_rows, *rows.shape[1:])))
            whole[start : start + part.shape[0]] = rows
        start += part.shape[0]
    return result
