"""The product with a frozen weight in 8 bits, as autograd knows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.compute.row_product import RowProduct


def multiplied(x: Tensor, product: RowProduct, qweight: Tensor, scale: Tensor) -> Tensor:
    """`x @ weight.T` in the dtype of x: [..., K] -> [..., N]; see RowProduct. The weight gets no gradient.

    Only the stored weight is kept for backward.
    """
    result: Tensor = _Multiplied.apply(x, product, qweight, scale)
    return result


class _Multiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, product: RowProduct, qweight: Tensor, scale: Tensor) -> Tensor:
        ctx.product = product
        ctx.save_for_backward(qweight, scale)
        out = x.new_empty((*x.shape[:-1], qweight.shape[0]))
        product.forward(x.flatten(0, -2), qweight, scale, out=out.view(-1, out.shape[-1]))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        qweight, scale = ctx.saved_tensors
        found = ctx.product.backward(gradient.flatten(0, -2), qweight, scale)
        return found.view(*gradient.shape[:-1], -1), None, None, None
