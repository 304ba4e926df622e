"""What the kernels compute, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.compute.rounding import RoundedRows
from toolkit.compute.row_product import LowRank


def scaled_product_twin(
    left: RoundedRows, right: Tensor, factors: Tensor | None, *, dtype: torch.dtype, update: LowRank | None = None
) -> Tensor:
    """`(left @ right) * scales + update`, [M, N] in `dtype`.

    Args:
        left: int8 rows [M, K] with their scales.
        right: int8, [K, N].
        factors: a scale per column, [1, N], fp32; None for 1.
        dtype: of the result.
        update: added in fp32 before the result is rounded to `dtype`.
    """
    sums = left.numbers.int() @ right.int()
    result = sums.float() * left.scale
    if factors is not None:
        result *= factors
    if update is not None:
        result += update.inner.float() @ update.outer.float()
    return result.to(dtype)
