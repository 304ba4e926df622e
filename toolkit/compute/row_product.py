"""The interface of products with weights that have 8 bits and a scale per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """A product of rank r, `inner @ outer`, that is added to another product, as for a LoRA.

    Attributes:
        inner: [M, r].
        outer: [r, N].
    """

    inner: Tensor
    outer: Tensor

    def add_to(self, result: Tensor) -> Tensor:
        """Add it to a result [M, N] in the same dtype, in place."""
        return result.addmm_(self.inner, self.outer)


class RowProduct(Protocol):
    """Multiplies with a frozen weight `qweight[n, k] * scale[n]`, without dequantizing it.

    Only x and gradients are rounded here, each token with a scale of its own, so neither outliers in other tokens nor
    outliers in other rows of the weight cost a token its precision.
    """

    def forward(self, x: Tensor, qweight: Tensor, scale: Tensor, *, out: Tensor, update: LowRank | None = None) -> None:
        """Write `x @ weight.T` to `out`.

        Args:
            x: [M, K], bf16, fp16 or fp32.
            qweight: [N, K], as it is stored.
            scale: [N, 1], floating point.
            out: [M, N], in any of these dtypes; may be some columns of a larger tensor.
            update: added to that; where a kernel multiplies, before the result is rounded.
        """
        ...

    def backward(
        self,
        gradient: Tensor,
        qweight: Tensor,
        scale: Tensor,
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """`gradient @ weight`, [M, K] in the dtype of the gradient [M, N]; added to `into` if that is given.

        `update` is added, too, see `forward`.
        """
        ...
