"""Norm, modulation and rounding to int8 in one read of the residual stream and one write of bytes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from toolkit.compute.kernels.twins import NormedRows
from toolkit.compute.rounding import SMALLEST_SCALE, RoundedRows

_WARPS = 8


def norm_and_round(x: Tensor, shift: Tensor, weight: Tensor, eps: float) -> NormedRows:
    """See `norm_and_round_twin`."""
    batch, num_tokens, width = x.shape
    flat = x.reshape(batch * num_tokens, width)
    shift, weight = (one.reshape(-1, width).contiguous() for one in (shift, weight))
    numbers = torch.empty(flat.shape, dtype=torch.int8, device=x.device)
    scale, mean, rstd = (torch.empty((len(flat), 1), dtype=torch.float32, device=x.device) for _ in range(3))
    with torch.cuda.device_of(x):  # Triton launches on the current card
        _norm[(len(flat),)](
            flat,
            shift,
            weight,
            numbers,
            scale,
            mean,
            rstd,
            flat.stride(0),
            width,
            num_tokens if len(shift) > 1 else len(flat),
            eps,
            SMALLEST_SCALE,
            padded=triton.next_power_of_2(width),
            num_warps=_WARPS,
        )
    return NormedRows(RoundedRows(numbers, scale), mean, rstd)


@triton.jit
def _norm(x, shift, weight, numbers, scale, mean, rstd, stride, width, tokens, eps, smallest, padded: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, padded)
    is_column = columns < width
    values = tl.load(x + row * stride + columns, mask=is_column, other=0.0).to(tl.float32)
    centre = tl.sum(values, axis=0) / width
    apart = tl.where(is_column, values - centre, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(apart * apart, axis=0) / width + eps)
    by = (row // tokens) * width + columns
    factors = tl.load(weight + by, mask=is_column, other=0.0).to(tl.float32)
    shifts = tl.load(shift + by, mask=is_column, other=0.0).to(tl.float32)
    modulated = apart * inverse * factors + shifts
    # A maximum may leave out what is not a number. The sum does not: then the scale is none, and so is the product.
    step = tl.maximum(tl.max(tl.abs(modulated), axis=0) / 127.0, smallest) + tl.sum(modulated * 0.0, axis=0)
    scaled = modulated / step
    # To the nearest integer: what is added makes the number one that has no digits behind the point.
    rounded = (scaled + 12582912.0) - 12582912.0
    tl.store(numbers + row * width + columns, rounded.to(tl.int8), mask=is_column)
    tl.store(scale + row, step)
    tl.store(mean + row, centre)
    tl.store(rstd + row, inverse)
