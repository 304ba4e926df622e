"""Rounding of rows to int8: two reads, of which the second finds most in the cache, and one write of bytes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from toolkit.compute.rounding import SMALLEST_SCALE, RoundedRows

_AT_ONCE, _WARPS = 4096, 8


def round_rows_to_int8(x: Tensor, times: Tensor | None = None) -> RoundedRows:
    """See `round_rows`, which is its twin. Neighbours in a row are neighbours in memory."""
    num_rows, width = x.shape
    numbers = torch.empty((num_rows, width), dtype=torch.int8, device=x.device)
    scale = torch.empty((num_rows, 1), dtype=torch.float32, device=x.device)
    assert x.stride(1) == 1 or width == 1
    if num_rows:
        with torch.cuda.device_of(x):  # Triton launches on the current card
            _round[(num_rows,)](
                x,
                scale if times is None else times,
                numbers,
                scale,
                x.stride(0),
                width,
                SMALLEST_SCALE,
                has_times=times is not None,
                at_once=min(_AT_ONCE, triton.next_power_of_2(width)),
                num_warps=_WARPS,
            )
    return RoundedRows(numbers, scale)


@triton.jit
def _round(x, times, numbers, scale, stride, width, smallest, has_times: tl.constexpr, at_once: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((at_once,), dtype=tl.float32)
    for start in range(0, width, at_once):
        columns = start + tl.arange(0, at_once)
        values = tl.load(x + row * stride + columns, mask=columns < width, other=0.0).to(tl.float32)
        if has_times:
            values *= tl.load(times + columns, mask=columns < width, other=0.0)
        largest = tl.maximum(largest, tl.abs(values), propagate_nan=tl.PropagateNan.ALL)
    # A maximum may leave out what is not a number. The sum does not: then the scale is none, and so is the product.
    step = tl.maximum(tl.max(largest, axis=0) / 127.0, smallest) + tl.sum(largest * 0.0, axis=0)
    for start in range(0, width, at_once):
        columns = start + tl.arange(0, at_once)
        values = tl.load(x + row * stride + columns, mask=columns < width, other=0.0).to(tl.float32)
        if has_times:
            values *= tl.load(times + columns, mask=columns < width, other=0.0)
        # To the nearest integer: what is added makes the number one that has no digits behind the point.
        rounded = (values / step + 12582912.0) - 12582912.0
        tl.store(numbers + row * width + columns, rounded.to(tl.int8), mask=columns < width)
    tl.store(scale + row, step)
