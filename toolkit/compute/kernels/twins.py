"""What the kernels compute, in plain torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.compute.rounding import RoundedRows, round_rows


@dataclass(frozen=True)
class LowRank:
    """A product of rank r that is added to another one, `inner @ outer`; exact, in the dtype of its factors.

    Attributes:
        inner: [M, r].
        outer: [r, N].
    """

    inner: Tensor
    outer: Tensor


@dataclass(frozen=True)
class NormedRows:
    """A row that was normed, modulated and rounded.

    Attributes:
        rows: the rounded rows, [M, h].
        mean, rstd: mean and inverse deviation of the original rows, [M, 1], fp32, which backward needs.
    """

    rows: RoundedRows
    mean: Tensor
    rstd: Tensor


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


def norm_and_round_twin(x: Tensor, shift: Tensor, weight: Tensor, eps: float) -> NormedRows:
    """`layer_norm(x) * weight + shift`, rounded to int8 rows; the norm has no weights of its own.

    Args:
        x: [B, n, h].
        shift, weight: [B, 1, h], or [1, 1, h] for all samples.
        eps: added to the variance.
    """
    wide = x.float()
    mean = wide.mean(dim=-1, keepdim=True)
    rstd = torch.rsqrt(wide.var(dim=-1, keepdim=True, correction=0) + eps)
    modulated = functional.layer_norm(wide, wide.shape[-1:], eps=eps) * weight.float() + shift.float()
    return NormedRows(round_rows(modulated.flatten(0, 1), torch.int8), mean.view(-1, 1), rstd.view(-1, 1))
