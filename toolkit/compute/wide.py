"""Frozen linear layers on a device that is slow at products of their dtype: they multiply in another one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.runtime.devices import linear_dtype, product_dtype


def multiply_wide(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Let the frozen linear layers of a module multiply in the dtype that the device is fast at.

    Args:
        module: the loaded module.
        device: where it computes.
        dtype: what it computes in.
    """
    if product_dtype(device, dtype) == dtype:
        return
    layers: list[Any] = [layer for layer in module.modules() if type(layer) is nn.Linear]
    for layer in layers:
        layer.forward = _Forward(layer)


class _Forward:
    """The forward of one layer in place of its class's; a layer that is trained has its class's."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer, dtype = self.layer, linear_dtype(x)
        wide = product_dtype(x.device, dtype)
        if wide == dtype or any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            return nn.Linear.forward(layer, x)
        result: Tensor = _Product.apply(x.to(dtype), layer.weight, layer.bias, wide)
        return result


class _Product(torch.autograd.Function):
    """`x @ weight.T + bias` in another dtype; only the weight as it is stored is kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, wide: torch.dtype) -> Tensor:
        ctx.wide = wide
        ctx.save_for_backward(weight)
        return functional.linear(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return (gradient.to(ctx.wide) @ weight.to(ctx.wide)).to(gradient.dtype), None, None, None
