"""Frozen linear layers that share their input, with the LoRAs on them: products and gradients, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from extensions_built_in.diffusion_models.lean.lora import Lora, LoraGradients, LoraRows, in_product_dtype
from toolkit.networks.kinds.lora import LoraPart
from toolkit.networks.network import LayerHook, Strength
from toolkit.quantize.frozen_product import FrozenProduct, product_of


@dataclass(frozen=True)
class _Layer:
    """One layer: its product, its place among the frozen tensors, and its rows of the weight."""

    product: FrozenProduct
    own: slice
    rows: slice


@dataclass(frozen=True)
class Attached:
    """A LoRA on one or more neighbours among the layers, which share its A.

    Attributes:
        part: the LoRA.
        strength: how much it counts, now.
        rows: those of the weight that it changes.
    """

    part: LoraPart
    strength: Strength
    rows: slice


class LeanLinear:
    """One weight [N, K]: the layers that hold its rows, and the LoRAs on them.

    x is [M, K]. The output, [M, N], is `x @ W.T + bias + (scale * x @ A.T) @ B.T`, layer beside layer. Gradients are in
    the dtype of products, see `in_product_dtype`.

    Attributes:
        attached: the LoRAs, in the order of the rows that they change; each row has one at most.
        num_frozen: number of frozen tensors.
        inputs, outputs: K and N.
    """

    def __init__(self, layers: Sequence[Any], products: Sequence[FrozenProduct], attached: Sequence[Attached]) -> None:
        self.attached = attached
        self.inputs: int = layers[0].in_features
        rows = (0, *accumulate(layer.out_features for layer in layers))
        counts = (0, *accumulate(len(product.tensors()) for product in products))
        self._layers = [
            _Layer(product, slice(*own), slice(*ends))
            for product, own, ends in zip(products, pairwise(counts), pairwise(rows), strict=True)
        ]
        self.outputs: int = rows[-1]
        self.num_frozen = counts[-1]

    def of_rows(self, start: int, stop: int) -> LeanLinear:
        """The same for some rows, given the tensors of the whole weight; for a LoRA, see `Lora.of_rows`."""
        found = copy(self)
        found._layers, found.outputs = [], stop - start
        for layer in self._layers:
            low, high = max(start, layer.rows.start), min(stop, layer.rows.stop)
            if low < high:
                part = layer.product.of_rows(slice(low - layer.rows.start, high - layer.rows.start))
                found._layers.append(replace(layer, product=part, rows=slice(low - start, high - start)))
        return found

    @property
    def num_trained(self) -> int:
        """Number of trained tensors."""
        return sum(1 + len(own.part.lora_B) for own in self.attached)

    def frozen(self) -> list[Tensor]:
        """The frozen tensors of all layers, as they are now."""
        return [tensor for layer in self._layers for tensor in layer.product.tensors()]

    def trained(self) -> list[Tensor]:
        """The trained tensors: of each LoRA A, then B of each layer."""
        return [tensor for own in self.attached for tensor in (own.part.lora_A, *own.part.lora_B)]

    @property
    def scales(self) -> list[float]:
        """Scale of each LoRA times its strength, now."""
        return [own.part.settings.scale * own.strength.value for own in self.attached]

    def lora(self, trained: Sequence[Tensor], scales: Sequence[float]) -> Lora | None:
        """The LoRAs for one pass, given what `trained` returned, in the dtype of products."""
        if not self.attached:
            return None
        rest, a, parts, rank = iter(trained), [], [], 0
        for own, scale in zip(self.attached, scales, strict=True):
            a.append(next(rest))
            b = [next(rest) for _ in own.part.lora_B]
            ranks = slice(rank, rank + len(a[-1]))
            parts.append(LoraRows(b[0] if len(b) == 1 else torch.cat(b), own.rows, ranks, scale, [len(x) for x in b]))
            rank = ranks.stop
        return Lora(a[0] if len(a) == 1 else torch.cat(a), parts)

    def forward(
        self, x: Tensor, frozen: Sequence[Tensor], lora: Lora | None, inner: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and `scale * x @ A.T` [M, R], which backward needs; it may give it back as `inner`."""
        dtype, x = x.dtype, in_product_dtype(x)
        if lora is not None and inner is None:
            inner = lora.inner(x)
        updates = [] if lora is None or inner is None else lora.updates(inner)
        output = x.new_empty((len(x), self.outputs))
        for layer in self._layers:
            # One that changes just this layer is added by its product, which can save a pass over the output.
            own = next((update for rows, update in updates if rows == layer.rows), None)
            layer.product.forward(x, frozen[layer.own], output[:, layer.rows], own)
        alone = [layer.rows for layer in self._layers]
        for rows, update in updates:
            if rows not in alone:
                update.add_to(output[:, rows])
        return output.to(dtype), inner

    @staticmethod
    def to_inner(gradient: Tensor, lora: Lora | None) -> Tensor | None:
        """The gradient of `scale * x @ A.T`, [M, R], from that of the output."""
        return None if lora is None else lora.to_inner(gradient)

    def to_input(
        self, gradient: Tensor, frozen: Sequence[Tensor], lora: Lora | None, to_inner: Tensor | None
    ) -> Tensor:
        """The gradient of x, [M, K], from that of the output and what `to_inner` gave."""
        update = None if lora is None or to_inner is None else lora.to_input(to_inner)
        total: Tensor | None = None
        for layer in self._layers:
            last = update if layer is self._layers[-1] else None
            total = layer.product.backward(gradient[:, layer.rows], frozen[layer.own], into=total, update=last)
        assert total is not None
        return total

    @staticmethod
    def to_trained(
        columns: Sequence[Tensor],
        inner: Tensor | None,
        gradient: Tensor,
        to_inner: Tensor | None,
        lora: Lora | None,
    ) -> LoraGradients | None:
        """The gradients of what is trained; `columns` are those of x, side by side, in any dtype."""
        if lora is None or inner is None or to_inner is None:
            return None
        return lora.gradients(columns, inner, gradient, to_inner)


class NotLean(Exception):
    """A block cannot have the backward pass written by hand; the text says why, in words for users."""


def lean_linear(*layers: nn.Module) -> LeanLinear:
    """The layers that hold the rows of one weight.

    Raises:
        NotLean: something else than plain LoRAs, of which each layer has one at most, is attached to them.
    """
    products, attached, start = [], list[Attached](), 0
    for layer in layers:
        product, hook = product_of(layer), _hook_of(layer)
        if product is None:
            raise NotLean("its own weights are trained")
        products.append(product)
        stop = start + int(layer.out_features)  # type: ignore[arg-type] # of a linear layer
        if hook is not None and type(hook.part) is LoraPart:
            if hook.site.index == 0:
                attached.append(Attached(hook.part, hook.strength, slice(start, stop)))
            elif attached and attached[-1].part is hook.part and attached[-1].rows.stop == start:
                attached[-1] = replace(attached[-1], rows=slice(attached[-1].rows.start, stop))
            else:
                raise NotLean("it shares a LoRA with other layers")
        start = stop
    return LeanLinear(layers, products, attached)


def _hook_of(layer: nn.Module) -> LayerHook | None:
    """The hook of the LoRA on a layer; None without one."""
    kinds = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    found: LayerHook | None = None
    for hook in (hook for kind in kinds for hook in kind.values()):
        if not isinstance(hook, LayerHook):
            raise NotLean("an adapter or another LoRA changes its layers")
        if type(hook.part) is not LoraPart:
            raise NotLean("its network is not a LoRA")
        if hook.part.settings.draws_numbers:
            raise NotLean("its LoRA has dropout")
        if found is not None:
            raise NotLean("it has several networks")
        found = hook
    return found
