"""The interface of products with weights that have 8 bits and a scale per row."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class RowProduct(Protocol):
    """Multiplies with a frozen weight `qweight[n, k] * scale[n]`, without dequantizing it.

    Only x and gradients are rounded here, each token with a scale of its own, so neither outliers in other tokens nor
    outliers in other rows of the weight cost a token its precision.
    """

    def forward(self, x: Tensor, qweight: Tensor, scale: Tensor, *, out: Tensor) -> None:
        """Write `x @ weight.T` to `out`.

        Args:
            x: [M, K], bf16, fp16 or fp32.
            qweight: [N, K], as it is stored.
            scale: [N, 1], floating point.
            out: [M, N], in any of these dtypes; may be some columns of a larger tensor.
        """
        ...

    def backward(self, gradient: Tensor, qweight: Tensor, scale: Tensor, *, into: Tensor | None = None) -> Tensor:
        """`gradient @ weight`, [M, K] in the dtype of the gradient [M, N]; added to `into` if that is given."""
        ...
