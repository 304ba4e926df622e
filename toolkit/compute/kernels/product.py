"""The product of 8-bit integers, with scales and a low-rank update in its epilogue: one kernel for both directions.

The 32-bit sums never leave the chip. The right factor is read by its strides, so that backward multiplies with the
weight as it is stored, which a library's product would have to transpose first.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from toolkit.compute.rounding import RoundedRows
from toolkit.compute.row_product import LowRank

# A tile of the result, and the numbers that are summed at once. Not tuned on any card.
_ROWS, _COLUMNS, _INNER, _WARPS, _STAGES = 128, 128, 64, 8, 3
_BAND = 8  # tiles of rows that are computed before the next columns, so that what they read stays in the cache
_SMALLEST = 16  # sizes of a product on tensor cores


def scaled_product(
    left: RoundedRows,
    right: Tensor,
    factors: Tensor | None,
    *,
    out: Tensor,
    update: LowRank | None = None,
    adds: bool = False,
) -> Tensor:
    """See `scaled_product_twin`.

    Args:
        left, right, factors, update: see the twin.
        out: [M, N], where the result is written to; may be some columns of a larger tensor.
        adds: whether the result is added to what `out` has.
    """
    (num_rows, inner), num_columns = left.numbers.shape, right.shape[1]
    if not num_rows:
        return out
    rank = 0 if update is None else update.inner.shape[1]
    low, high = (out, out) if update is None else (update.inner, update.outer)  # not read without an update
    tiles = triton.cdiv(num_rows, _ROWS) * triton.cdiv(num_columns, _COLUMNS)
    with torch.cuda.device_of(out):  # Triton launches on the current card
        _product[(tiles,)](
            left.numbers,
            right,
            left.scale,
            left.scale if factors is None else factors,
            low,
            high,
            out,
            num_rows,
            num_columns,
            inner,
            rank,
            *left.numbers.stride(),
            *right.stride(),
            *low.stride(),
            *high.stride(),
            *out.stride(),
            has_factors=factors is not None,
            padded_rank=0 if rank == 0 else max(_SMALLEST, triton.next_power_of_2(rank)),
            adds=adds,
            widens=triton.knobs.runtime.interpret,
            tile_rows=_ROWS,
            tile_columns=_COLUMNS,
            tile_inner=_INNER,
            band_size=_BAND,
            num_warps=_WARPS,
            num_stages=_STAGES,
        )
    return out


@triton.jit
def _product(
    left,
    right,
    scales,
    factors,
    low,
    high,
    out,
    num_rows,
    num_columns,
    inner,
    rank,
    left_row,
    left_column,
    right_row,
    right_column,
    low_row,
    low_column,
    high_row,
    high_column,
    out_row,
    out_column,
    has_factors: tl.constexpr,
    padded_rank: tl.constexpr,
    adds: tl.constexpr,
    widens: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    tile_inner: tl.constexpr,
    band_size: tl.constexpr,
):
    tiles_down, tiles_across = tl.cdiv(num_rows, tile_rows), tl.cdiv(num_columns, tile_columns)
    band = tl.program_id(0) // (band_size * tiles_across)
    height = tl.minimum(tiles_down - band * band_size, band_size)
    place = tl.program_id(0) % (band_size * tiles_across)
    rows = ((band * band_size + place % height) * tile_rows + tl.arange(0, tile_rows)).to(tl.int64)
    columns = ((place // height) * tile_columns + tl.arange(0, tile_columns)).to(tl.int64)
    along = tl.arange(0, tile_inner)
    is_row, is_column = rows[:, None] < num_rows, columns[None, :] < num_columns

    lefts = left + rows[:, None] * left_row + along[None, :] * left_column
    rights = right + along[:, None] * right_row + columns[None, :] * right_column
    sums = tl.zeros((tile_rows, tile_columns), dtype=tl.int32)
    for start in range(0, inner, tile_inner):
        is_inner = start + along < inner
        a = tl.load(lefts, mask=is_row & is_inner[None, :], other=0)
        b = tl.load(rights, mask=is_inner[:, None] & is_column, other=0)
        sums += tl.dot(a, b, out_dtype=tl.int32)
        lefts += tile_inner * left_column
        rights += tile_inner * right_row

    result = sums.to(tl.float32) * tl.load(scales + rows, mask=rows < num_rows, other=0.0)[:, None]
    if has_factors:
        result *= tl.load(factors + columns, mask=columns < num_columns, other=0.0)[None, :]
    if padded_rank > 0:
        ranks = tl.arange(0, padded_rank)
        is_rank = ranks < rank
        a = tl.load(low + rows[:, None] * low_row + ranks[None, :] * low_column, is_row & is_rank[None, :], other=0.0)
        b = tl.load(
            high + ranks[:, None] * high_row + columns[None, :] * high_column, is_rank[:, None] & is_column, other=0.0
        )
        if widens:  # Triton's interpreter, which multiplies bf16 as if it were integers
            a, b = a.to(tl.float32), b.to(tl.float32)
        result += tl.dot(a, b, input_precision="ieee")
    outs = out + rows[:, None] * out_row + columns[None, :] * out_column
    if adds:
        result += tl.load(outs, mask=is_row & is_column, other=0.0).to(tl.float32)
    tl.store(outs, result.to(out.dtype.element_ty), mask=is_row & is_column)
