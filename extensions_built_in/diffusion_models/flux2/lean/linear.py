"""Frozen linear layers that share their input, with the LoRA on them: products and gradients, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.compute.row_product import LowRank
from toolkit.networks.kinds.lora import LoraPart
from toolkit.networks.network import LayerHook, Strength
from toolkit.quantize.frozen_product import FrozenProduct, product_of
from toolkit.runtime.devices import product_dtype


@dataclass(frozen=True)
class Lora:
    """The LoRA of a `LeanLinear`, ready for one pass.

    Attributes:
        a: [r, K], in the dtype of products, see `in_product_dtype`.
        b: [N, r], likewise.
        scale: factor of the change: scale of the LoRA times its strength.
    """

    a: Tensor
    b: Tensor
    scale: float


class LeanLinear:
    """One weight of the released model [N, K]: the layers that hold its rows, and its LoRA.

    x is [M, K]. The output, [M, N], is `x @ W.T + (scale * x @ A.T) @ B.T`, layer beside layer. Gradients are in the
    dtype of products, see `in_product_dtype`.

    Attributes:
        part: the LoRA; None without one.
        num_frozen: number of frozen tensors.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        products: Sequence[FrozenProduct],
        part: LoraPart | None,
        strength: Strength | None,
    ) -> None:
        self.part = part
        self._products = products
        self._strength = strength
        rows = (0, *accumulate(layer.out_features for layer in layers))
        self._rows = [slice(*ends) for ends in pairwise(rows)]
        counts = (0, *accumulate(len(product.tensors()) for product in products))
        self._own = [slice(*ends) for ends in pairwise(counts)]
        self.num_frozen = counts[-1]

    def of_rows(self, start: int, stop: int) -> LeanLinear:
        """The same for some rows of a weight that one layer holds, given the tensors of the whole weight."""
        (product,) = self._products
        found = copy(self)
        found._products = [product.of_rows(slice(start, stop))]
        found._rows = [slice(0, stop - start)]
        return found

    @property
    def num_trained(self) -> int:
        """Number of trained tensors."""
        return 0 if self.part is None else 1 + len(self.part.lora_B)

    def frozen(self) -> list[Tensor]:
        """The frozen tensors of all layers, as they are now."""
        return [tensor for product in self._products for tensor in product.tensors()]

    def trained(self) -> list[Tensor]:
        """The trained tensors: A, then B of each layer; none without a LoRA."""
        return [] if self.part is None else [self.part.lora_A, *self.part.lora_B]

    @property
    def scale(self) -> float:
        """Scale of the LoRA times its strength, now; 0 without one."""
        return 0.0 if self.part is None or self._strength is None else self.part.settings.scale * self._strength.value

    def lora(self, trained: Sequence[Tensor], scale: float) -> Lora | None:
        """The LoRA for one pass, given what `trained` returned, in the dtype of products."""
        if self.part is None:
            return None
        a, *b = trained
        return Lora(a, b[0] if len(b) == 1 else torch.cat(b), scale)

    def forward(
        self, x: Tensor, frozen: Sequence[Tensor], lora: Lora | None, inner: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and `scale * x @ A.T` [M, r], which backward needs; it may give it back as `inner`."""
        dtype, x = x.dtype, in_product_dtype(x)
        if lora is not None and inner is None:
            inner = _scaled(x @ lora.a.T, lora.scale)
        update = None if lora is None or inner is None else LowRank(inner, lora.b.T)
        is_one = len(self._products) == 1  # then the product adds the update, which can save a pass over the output
        output = x.new_empty((len(x), self._rows[-1].stop))
        for product, own, rows in zip(self._products, self._own, self._rows, strict=True):
            product.forward(x, frozen[own], output[:, rows], update if is_one else None)
        if update is not None and not is_one:
            update.add_to(output)
        return output.to(dtype), inner

    @staticmethod
    def to_inner(gradient: Tensor, lora: Lora | None) -> Tensor | None:
        """The gradient of `scale * x @ A.T`, [M, r], from that of the output."""
        return None if lora is None else gradient @ lora.b

    def to_input(
        self, gradient: Tensor, frozen: Sequence[Tensor], lora: Lora | None, to_inner: Tensor | None
    ) -> Tensor:
        """The gradient of x, [M, K], from that of the output and what `to_inner` gave."""
        update = None
        if lora is not None and to_inner is not None:
            update = LowRank(to_inner if lora.scale == 1 else to_inner * lora.scale, lora.a)
        total: Tensor | None = None
        for product, own, rows in zip(self._products, self._own, self._rows, strict=True):
            is_last = rows is self._rows[-1]
            total = product.backward(gradient[:, rows], frozen[own], into=total, update=update if is_last else None)
        assert total is not None
        return total

    def to_trained(
        self,
        columns: Sequence[Tensor],
        inner: Tensor | None,
        gradient: Tensor,
        to_inner: Tensor | None,
        lora: Lora | None,
    ) -> list[Tensor]:
        """The gradients of A and of each B; `columns` are those of x, side by side, in any dtype."""
        if lora is None or inner is None or to_inner is None:
            return []
        to_a = torch.empty_like(lora.a)
        start = 0
        for part in columns:
            torch.mm(to_inner.T, in_product_dtype(part), out=to_a[:, start : start + part.shape[1]])
            start += part.shape[1]
        to_b = gradient.T @ inner
        return [_scaled(to_a, lora.scale), *(to_b[rows] for rows in self._rows)]


def in_product_dtype(x: Tensor) -> Tensor:
    """The same numbers in the dtype that they are multiplied in, see `product_dtype`."""
    return x.to(product_dtype(x.device, x.dtype))


def _scaled(tensor: Tensor, scale: float) -> Tensor:
    return tensor if scale == 1 else tensor.mul_(scale)


class NotLean(Exception):
    """A block cannot have the backward pass written by hand; the text says why, in words for users."""


def lean_linear(*layers: nn.Module) -> LeanLinear:
    """The layers that hold the rows of one weight.

    Raises:
        NotLean: something else than one plain LoRA is attached to them.
    """
    products, parts, strengths, num_hooks = [], set(), set(), 0
    for layer in layers:
        product = product_of(layer)
        if product is None:
            raise NotLean("its own weights are trained")
        products.append(product)
        hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
        for hook in (hook for kind in hooks for hook in kind.values()):
            if not isinstance(hook, LayerHook):
                raise NotLean("an adapter or another LoRA changes its layers")
            if type(hook.part) is not LoraPart:
                raise NotLean("its network is not a LoRA")
            if hook.part.settings.draws_numbers:
                raise NotLean("its LoRA has dropout")
            parts.add(hook.part)
            strengths.add(hook.strength)
            num_hooks += 1
    if len(parts) > 1 or num_hooks not in (0, len(layers)):
        raise NotLean("it has several networks")
    return LeanLinear(layers, products, next(iter(parts), None), next(iter(strengths), None))
