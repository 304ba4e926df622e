"""A linear layer whose weight is quantized and never changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.compute.function import multiplied
from toolkit.compute.row_product import RowProduct
from toolkit.quantize.formats import FORMATS, Buffers, Format
from toolkit.runtime.devices import linear_dtype, product_dtype

CODEBOOK = "codebook"  # the one buffer of a format that does not have a row for each output


class FrozenLinear(nn.Linear):
    """Computes `y = x @ weight.T + bias`, dequantizing the weight in forward and again in backward.

    A subclass of Linear, for libraries that look for one, but without a `weight`. The weight is stored in plain buffers
    (`qweight`, `scale`, ...), which are read at every call and may be moved, packed or replaced between calls. Unless
    the layer is checkpointed, backward uses the buffers that forward used. No copy in full precision is kept between
    forward and backward, and there is no gradient for the weight.

    Attributes:
        qtype: number format of the weight, a key of `FORMATS`.
        row_buffers: names of the buffers with a row for each output.
        product: how a weight with a scale per row is multiplied as it is stored; None to dequantize it.
        stored_names: names of all buffers.
    """

    product: RowProduct | None = None

    def __init__(
        self, buffers: Buffers, *, qtype: str, in_features: int, bias: Tensor | None, out_features: int | None = None
    ) -> None:
        """Args not explained in the class:

        buffers: the quantized weight, from a format's `quantize`; of all outputs, or of some rows.
        out_features: number of outputs if the buffers hold only some of their rows; None if they hold all.
        """
        nn.Module.__init__(self)
        self.qtype = qtype
        self.in_features = in_features
        self.out_features = buffers["qweight"].shape[0] if out_features is None else out_features
        self.row_buffers = tuple(name for name in buffers if name != CODEBOOK)
        self.stored_names = tuple(buffers)
        self.register_parameter("weight", None)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., K] to [..., N], in autocast's dtype if it is enabled, otherwise in the dtype of x."""
        x = x.to(linear_dtype(x))
        if self.product is not None:
            result = multiplied(x, self.product, getattr(self, "qweight"), getattr(self, "scale"))  # noqa: B009
        else:
            result = _Product.apply(x, FORMATS[self.qtype], self.stored_names, *self.stored())
        return result if self.bias is None else result + self.bias.to(result.dtype)

    def stored(self) -> tuple[Tensor, ...]:
        """The buffers as they are now, in the order of `stored_names`."""
        return tuple(getattr(self, name) for name in self.stored_names)

    def dequantize(self, dtype: torch.dtype, whole: Callable[[Tensor], Tensor] = Tensor.detach) -> Tensor:
        """The weight [N, K] that the layer multiplies with; `whole` gathers each buffer if it is spread over ranks."""
        buffers = {name: whole(buffer) for name, buffer in zip(self.stored_names, self.stored(), strict=True)}
        return FORMATS[self.qtype].dequantize(buffers, in_features=self.in_features, dtype=dtype)

    def make_parameters(self) -> None:
        """Make frozen parameters of the buffers with a row for each output, so that they can be spread over ranks."""
        for name in self.row_buffers:
            buffer = self._buffers.pop(name)
            assert buffer is not None
            self.register_parameter(name, nn.Parameter(buffer, requires_grad=False))

    def extra_repr(self) -> str:
        """See Module.extra_repr."""
        how = "" if self.product is None else f", product={type(self.product).__name__}"
        return f"{super().extra_repr()}, qtype={self.qtype}{how}"


class _Product(torch.autograd.Function):
    """`x @ weight.T` that saves only the quantized buffers for backward, neither the full weight nor x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, number_format: Format, names: tuple[str, ...], *tensors: Tensor) -> Tensor:
        ctx.number_format, ctx.names, ctx.in_features = number_format, names, x.shape[-1]
        ctx.save_for_backward(*tensors)
        wide = product_dtype(x.device, x.dtype)
        return functional.linear(x.to(wide), _weight(number_format, names, tensors, x.shape[-1], wide)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wide = product_dtype(gradient.device, gradient.dtype)
        weight = _weight(ctx.number_format, ctx.names, ctx.saved_tensors, ctx.in_features, wide)
        return (gradient.to(wide) @ weight).to(gradient.dtype), None, None, *(None for _ in ctx.names)


def _weight(
    number_format: Format, names: tuple[str, ...], tensors: tuple[Tensor, ...], in_features: int, dtype: torch.dtype
) -> Tensor:
    buffers = dict(zip(names, tensors, strict=True))
    return number_format.dequantize(buffers, in_features=in_features, dtype=dtype)


def weight_of(layer: Any, dtype: torch.dtype, whole: Callable[[Tensor], Tensor] = Tensor.detach) -> Tensor:
    """A frozen layer's weight, [rows, inputs]. While the layer runs it is whole, also where ranks share it."""
    return layer.dequantize(dtype, whole) if isinstance(layer, FrozenLinear) else whole(layer.weight).to(dtype)
