"""The product with a frozen weight, forward and towards the input: what a backward pass written by hand calls.

A layer's product is chosen once, in `product_of`. Its tensors are read from the layer at every call, because streaming
moves them, and are given back to `backward`: the caller keeps them as autograd keeps a saved tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.compute.row_product import LowRank, RowProduct
from toolkit.quantize.formats import FORMATS
from toolkit.quantize.frozen_linear import FrozenLinear


class FrozenProduct(Protocol):
    """How one frozen layer [N, K] multiplies. It keeps nothing between calls."""

    def tensors(self) -> tuple[Tensor, ...]:
        """The layer's tensors as they are now; always as many."""
        ...

    def forward(self, x: Tensor, tensors: Sequence[Tensor], out: Tensor, update: LowRank | None = None) -> None:
        """Write `x @ weight.T + bias + update` of x [M, K] to `out` [M, N].

        `out` has the dtype of x, and may be some columns of a larger tensor.
        """
        ...

    def backward(
        self,
        gradient: Tensor,
        tensors: Sequence[Tensor],
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """`gradient @ weight + update`: [M, N] -> [M, K], in the dtype of the gradient; added to `into` if given."""
        ...

    def of_rows(self, rows: slice) -> FrozenProduct:
        """The product with some rows of the weight, given all of its tensors."""
        ...


def product_of(layer: nn.Module) -> FrozenProduct | None:
    """How a layer multiplies; None if it is not a frozen linear layer of a kind that is known here."""
    if type(layer) is FrozenLinear:
        return _Dequantized(layer) if layer.product is None else _AsStored(layer, layer.product)
    return _Plain(layer) if type(layer) is nn.Linear and not layer.weight.requires_grad else None


class _Plain:
    """A weight of floating point numbers."""

    def __init__(self, layer: nn.Linear, rows: slice = slice(None)) -> None:
        self.layer = layer
        self.rows = rows

    def of_rows(self, rows: slice) -> FrozenProduct:
        """See FrozenProduct."""
        return _Plain(self.layer, rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """See FrozenProduct."""
        return (self.layer.weight,)

    def forward(self, x: Tensor, tensors: Sequence[Tensor], out: Tensor, update: LowRank | None = None) -> None:
        """See FrozenProduct."""
        _write(x, tensors[0][self.rows].to(x.dtype), self._bias(), out, update)

    def backward(
        self,
        gradient: Tensor,
        tensors: Sequence[Tensor],
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """See FrozenProduct."""
        return _multiplied(gradient, tensors[0][self.rows].to(gradient.dtype), into, update)

    def _bias(self) -> Tensor | None:
        return None if self.layer.bias is None else self.layer.bias[self.rows]


class _Dequantized:
    """A quantized weight, which is dequantized forward and again backward."""

    def __init__(self, layer: FrozenLinear, rows: slice = slice(None)) -> None:
        self.layer = layer
        self.rows = rows
        self.format = FORMATS[layer.qtype]

    def of_rows(self, rows: slice) -> FrozenProduct:
        """See FrozenProduct."""
        return _Dequantized(self.layer, rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """See FrozenProduct."""
        return self.layer.stored()

    def forward(self, x: Tensor, tensors: Sequence[Tensor], out: Tensor, update: LowRank | None = None) -> None:
        """See FrozenProduct."""
        bias = None if self.layer.bias is None else self.layer.bias[self.rows]
        _write(x, self._weight(tensors, x.dtype), bias, out, update)

    def backward(
        self,
        gradient: Tensor,
        tensors: Sequence[Tensor],
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """See FrozenProduct."""
        return _multiplied(gradient, self._weight(tensors, gradient.dtype), into, update)

    def _weight(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        buffers = dict(zip(self.layer.stored_names, tensors, strict=True))
        return self.format.dequantize(buffers, in_features=self.layer.in_features, dtype=dtype)[self.rows]


class _AsStored:
    """A quantized weight that is multiplied in 8 bits as it is stored."""

    def __init__(self, layer: FrozenLinear, product: RowProduct, rows: slice = slice(None)) -> None:
        self.layer = layer
        self.product = product
        self.rows = rows

    def of_rows(self, rows: slice) -> FrozenProduct:
        """See FrozenProduct."""
        return _AsStored(self.layer, self.product, rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """See FrozenProduct."""
        return self.layer.stored()

    def forward(self, x: Tensor, tensors: Sequence[Tensor], out: Tensor, update: LowRank | None = None) -> None:
        """See FrozenProduct."""
        qweight, scale = self._rows_of(tensors)
        self.product.forward(x, qweight, scale, out=out, update=update)
        if self.layer.bias is not None:
            out.add_(self.layer.bias[self.rows])

    def backward(
        self,
        gradient: Tensor,
        tensors: Sequence[Tensor],
        *,
        into: Tensor | None = None,
        update: LowRank | None = None,
    ) -> Tensor:
        """See FrozenProduct."""
        qweight, scale = self._rows_of(tensors)
        return self.product.backward(gradient, qweight, scale, into=into, update=update)

    def _rows_of(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        stored = dict(zip(self.layer.stored_names, tensors, strict=True))
        return stored["qweight"][self.rows], stored["scale"][self.rows]


def _write(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, update: LowRank | None) -> None:
    torch.mm(x, weight.T, out=out)
    if bias is not None:
        out.add_(bias)
    if update is not None:
        update.add_to(out)


def _multiplied(gradient: Tensor, weight: Tensor, into: Tensor | None, update: LowRank | None) -> Tensor:
    found = gradient @ weight if into is None else into.addmm_(gradient, weight)
    return found if update is None else update.add_to(found)
