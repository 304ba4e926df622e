"""Products in 8-bit integers: exact sums in 32 bits, then the scales of token and row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.compute.kernels import has_kernels
from toolkit.compute.rounding import RoundedRows, round_rows
from toolkit.compute.row_product import LowRank, RowProduct
from toolkit.quantize.formats.rotated import rotate

# Bytes of 32-bit sums at once: of a wide layer they would be the largest tensor of a step.
_SUM_BYTES_CPU, _SUM_BYTES = 8 << 20, 256 << 20
_FEWEST_ROWS = 256  # of x at once: with fewer, reading the weight would take longer than multiplying
# What cuBLAS multiplies: more than 16 rows, and multiples of 8 in the other two sizes.
_MIN_ROWS, _MULTIPLE = 17, 8


class Int8Product:
    """`x @ W.T` as `(x8 @ W8.T) * x_scale * w_scale`; towards the input as `((g * w_scale)8 @ W8) * scale`.

    The scale of a weight's row belongs to the numbers that are summed in backward, so it is multiplied into the
    gradient before that is rounded: the weight is the same for both directions, and neither stored twice nor rounded
    again.
    """

    def forward(self, x: Tensor, qweight: Tensor, scale: Tensor, *, out: Tensor, update: LowRank | None = None) -> None:
        """See RowProduct."""
        rounded, factors = _rounded(x), scale.float().view(1, -1)
        if has_kernels(x.device):
            _kernel()(rounded, qweight.T, factors, out=out, update=update)
            return
        for rows in _parts(len(x), qweight.shape[0], x.device):
            sums = int8_product(rounded.numbers[rows], qweight.T).float().mul_(factors)
            torch.mul(sums, rounded.scale[rows], out=out[rows])
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
        rounded = _rounded(gradient, times=scale.float().view(-1))
        result = gradient.new_empty((len(gradient), qweight.shape[1])) if into is None else into
        if has_kernels(gradient.device):
            _kernel()(rounded, qweight, None, out=result, update=update, adds=into is not None)
            return result
        weight = qweight if gradient.device.type == "cpu" else columns_first(qweight)
        for rows in _parts(len(gradient), qweight.shape[1], gradient.device):
            sums = int8_product(rounded.numbers[rows], weight).float()
            if into is None:
                torch.mul(sums, rounded.scale[rows], out=result[rows])
            else:
                result[rows].add_(sums.mul_(rounded.scale[rows]))
        return result if update is None else update.add_to(result)


class RotatedInt8Product(Int8Product):
    """The same for weights that were rotated before they were rounded, see `Rotated`: x is rotated as they are.

    The rotation spreads a channel that is larger than others over its neighbours, so that it does not take the steps
    of all others of its token. Source: ConvRot (arXiv 2512.03673).
    """

    def forward(self, x: Tensor, qweight: Tensor, scale: Tensor, *, out: Tensor, update: LowRank | None = None) -> None:
        """See RowProduct."""
        super().forward(rotate(x), qweight, scale, out=out, update=update)

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
        found = rotate(super().backward(gradient, qweight, scale))
        found = found if into is None else into.add_(found)
        return found if update is None else update.add_to(found)


def int8_product(left: Tensor, right: Tensor) -> Tensor:
    """The exact product of int8 matrices [M, K] and [K, N], int32. Sizes that a GPU cannot multiply are padded."""
    if left.device.type == "cpu":
        return torch._int_mm(left, right)
    return torch._int_mm(*padded(left, right))[: len(left), : right.shape[1]]


def padded(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both matrices of a product with zeros at their ends, up to sizes that cuBLAS multiplies."""
    inner = -left.shape[1] % _MULTIPLE
    left = functional.pad(left, (0, inner, 0, max(0, _MIN_ROWS - len(left))))
    # The right one keeps its columns in one piece.
    return left, functional.pad(right.T, (0, inner, 0, -right.shape[1] % _MULTIPLE)).T


def columns_first(matrix: Tensor) -> Tensor:
    """The same matrix [N, K] with each column in one piece, which is what a GPU's 8-bit units read as right factor."""
    return matrix.T.contiguous().T


def _rounded(x: Tensor, times: Tensor | None = None) -> RoundedRows:
    if not has_kernels(x.device):
        return round_rows(x, torch.int8, times=times)
    from toolkit.compute.kernels.rows import round_rows_to_int8  # loads Triton

    return round_rows_to_int8(x if x.stride(1) == 1 else x.contiguous(), times)


def _kernel() -> Any:
    from toolkit.compute.kernels.product import scaled_product  # loads Triton

    return scaled_product


def _parts(num_rows: int, width: int, device: torch.device) -> list[slice]:
    limit = _SUM_BYTES_CPU if device.type == "cpu" else _SUM_BYTES
    at_once = max(_FEWEST_ROWS, limit // (4 * max(width, 1)))
    return [slice(start, start + at_once) for start in range(0, num_rows, at_once)]


INT8: RowProduct = Int8Product()
ROTATED_INT8: RowProduct = RotatedInt8Product()
