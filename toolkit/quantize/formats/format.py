"""The interface of all formats: from a weight to buffers, and back to a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Buffers = dict[str, Tensor]
# Weights that are rounded at once: only an fp32 copy of them and a few temporaries of that size take extra memory.
_WEIGHTS_AT_ONCE = 1 << 20


class Format(Protocol):
    """A number format. Its buffers are plain tensors that can be moved, packed and stored like any others.

    Floats that `module.to(dtype)` must not change are stored as integers with the same bits.
    """

    def quantize(self, weight: Tensor) -> Buffers:
        """The buffers for a weight [N, K] of any float dtype, on its device; `qweight` [N, ...] is one of them."""
        ...

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """The weight [N, K = in_features] in `dtype` that the buffers represent; the buffers are not changed."""
        ...


def by_rows(weight: Tensor, quantize: Callable[[Tensor], Buffers]) -> Buffers:
    """Quantize a weight [N, K] a few rows at a time; `quantize` must return buffers with one row per given row."""
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
