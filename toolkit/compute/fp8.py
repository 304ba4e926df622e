"""Products in float8 (e4m3) on cards with float8 units; elsewhere the same rounding, multiplied in fp32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.compute.int8 import columns_first
from toolkit.compute.rounding import RoundedRows, round_rows
from toolkit.compute.row_product import LowRank, RowProduct

FLOAT8 = torch.float8_e4m3fn
_MULTIPLE = 16  # of both sizes of the weight, for cuBLAS


class Fp8Product:
    """As Int8Product, in float8. The scale of a weight's row is multiplied into the gradient before that is rounded."""

    def forward(self, x: Tensor, qweight: Tensor, scale: Tensor, *, out: Tensor, update: LowRank | None = None) -> None:
        """See RowProduct."""
        weight, factors = qweight.view(FLOAT8), scale.float().view(1, -1)
        out.copy_(float8_product(round_rows(x, FLOAT8), weight.T, factors, dtype=_dtype_of(x)))
        if update is not None:
            update.add_to(out)

    def backward(
        self,
        gradient: Tensor,
        qweight: Tensor,
        scale: Tensor,
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """See RowProduct."""
        rounded = round_rows(gradient, FLOAT8, times=scale.float().view(-1))
        weight = columns_first(qweight).view(FLOAT8) if _has_units(gradient) else qweight.view(FLOAT8)
        ones = torch.ones((1, weight.shape[1]), dtype=torch.float32, device=gradient.device)
        result = float8_product(rounded, weight, ones, dtype=_dtype_of(gradient))
        found = result.to(gradient.dtype) if into is None else into.add_(result)
        return found if update is None else update.add_to(found)


def float8_product(left: RoundedRows, right: Tensor, factors: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The product of rounded rows [M, K] and a float8 matrix [K, N] with a factor for each column, [1, N], fp32.

    Sums are in fp32; the result has `dtype`, bf16 on a card.
    """
    if not _has_units(right):
        return (left.numbers.float() @ right.float()).mul_(left.scale).mul_(factors).to(dtype)
    num_columns = right.shape[1]
    inner, outer = -right.shape[0] % _MULTIPLE, -num_columns % _MULTIPLE
    numbers = _padded(left.numbers, (0, inner))
    if inner or outer:
        right = _padded(right.T, (0, inner, 0, outer)).T
        factors = functional.pad(factors, (0, outer))
    product = torch._scaled_mm(numbers, right, scale_a=left.scale, scale_b=factors, out_dtype=torch.bfloat16)
    return product[:, :num_columns]


def _has_units(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"  # the check has refused cards without


def _padded(numbers: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Padded with zeros. Float8 has no operation for this, but its zero is a byte of zeros."""
    return functional.pad(numbers.view(torch.uint8), widths).view(FLOAT8) if any(widths) else numbers


def _dtype_of(x: Tensor) -> torch.dtype:
    return torch.bfloat16 if _has_units(x) else torch.float32


FP8: RowProduct = Fp8Product()
