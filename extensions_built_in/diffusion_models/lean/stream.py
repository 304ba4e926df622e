"""One stream of a double block: what comes before attention, and what comes after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.lean.linear import LeanLinear
from extensions_built_in.diffusion_models.lean.lora import in_product_dtype
from extensions_built_in.diffusion_models.lean.modulation import Modulator, Sublayer
from extensions_built_in.diffusion_models.lean.pieces import (
    HeadNorm,
    Modulation,
    Rotation,
)
from extensions_built_in.diffusion_models.lean.run import Pass
from toolkit.runtime.devices import product_dtype

_QKV, _OUT, _WIDE, _NARROW = range(4)  # the places of a stream's linears


@dataclass(frozen=True)
class Stream:
    """One stream's layers.

    Attributes:
        name: `image` or `text`.
        linears: h -> 3 h (q, k, v), the attention's output, and the MLP's two.
        modulator: where the modulation of the attention and of the MLP comes from.
        norm: the norms of queries and keys.
        eps: of the norms of the residual stream.
        recomputes: whether backward makes the layers that are wider than h again.
    """

    name: str
    linears: tuple[LeanLinear, LeanLinear, LeanLinear, LeanLinear]
    modulator: Modulator
    norm: HeadNorm
    eps: float
    recomputes: bool


class StreamPass:
    """One pass of a stream, forward or backward. Residual streams are [B, n, h].

    Kept per token, in channels of the hidden size h: the input (1), the attention's output (1), the input of the MLP's
    norm (1) and, unless they are recomputed, raw q, k and v (3) and the output of the MLP's first layer (6 if it is
    gated, else 4). If its modulation is trained, also what attention and MLP add, before the gate (2).

    Args:
        stream: its layers.
        run: the pass of the block.
        tokens: where its tokens are in the attention.
        by: modulation of the attention, and of the MLP.
        rotation: of its tokens.
        linears: the place of its linears among those of the block.

    Attributes:
        found: the gradients of what is trained at each linear.
    """

    def __init__(
        self,
        stream: Stream,
        run: Pass,
        *,
        tokens: slice,
        by: Sequence[Modulation],
        rotation: Rotation,
        linears: slice,
    ) -> None:
        self.stream = stream
        self.pieces = stream.norm.pieces
        self.run = run
        self.tokens = tokens
        is_trained = stream.modulator.is_trained
        self.sublayers = [Sublayer(own, self.pieces, is_trained=is_trained) for own in by]
        self.rotation = rotation
        self.frozen = run.frozen[linears]
        self.loras = run.loras[linears]
        self.found: list[list[Tensor]] = [[] for _ in stream.linears]
        self._modulated: Tensor | None = None

    @property
    def goes_further(self) -> bool:
        """Whether what comes before attention has gradients of its own."""
        return self.stream.modulator.is_trained or self.stream.linears[_QKV].num_trained > 0

    # Forward

    def project(self, x: Tensor) -> Tensor:
        """Raw queries, keys and values of the residual stream, [B, n, 3, heads, head size]."""
        modulated, mean, rstd = self._modulate(x, 0)
        raw, inner = self._linear(_QKV, modulated)
        raw = self._as_heads(raw)
        self._keep(x=x, mean=mean, rstd=rstd, rrms=self.stream.norm.rrms(raw[:, :, :2]))
        self._keep(inner=inner)
        if not self.stream.recomputes:
            self._keep(raw=raw)
        return raw

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The stream after the block, from what it was before, and the attention's output."""
        added, attended_inner = self._linear(_OUT, attended)
        middle = torch.addcmul(x, self.sublayers[0].by.gate, added)
        modulated, mean, rstd = self._modulate(middle, 1)
        wide, wide_inner = self._linear(_WIDE, modulated)
        narrow = wide.new_empty((*wide.shape[:2], self.stream.linears[_NARROW].inputs))
        self.pieces.activate(wide, narrow)
        output, narrow_inner = self._linear(_NARROW, narrow)
        self._keep(middle=middle, middle_mean=mean, middle_rstd=rstd)
        self._keep(attended_inner=attended_inner, wide_inner=wide_inner, narrow_inner=narrow_inner)
        if not self.stream.recomputes:
            self._keep(wide=wide)
        if self.stream.modulator.is_trained:
            self._keep(attention_adds=added, mlp_adds=output)
        return torch.addcmul(middle, self.sublayers[1].by.gate, output)

    def rotated(self, raw: Tensor, rrms: Tensor) -> Tensor:
        """Queries and keys, normed and rotated, [B, n, 2, heads, head size], fp32, from raw ones."""
        return self.stream.norm.forward(raw[:, :, :2], rrms, self.rotation)

    # Backward

    def finish_backward(self, gradient: Tensor, attended: Tensor, out: Tensor) -> Tensor:
        """Write the gradient of the attention's output to `out`; returns the part of x's that goes past attention."""
        middle, kept = self.kept("middle"), self.run.kept
        modulated = None
        if self.stream.recomputes:
            modulated, *_ = self._modulate(middle, 1)
            wide, wide_inner = self._linear(_WIDE, modulated, kept.get(self._name("wide_inner")))
            to_wide = in_product_dtype(wide)  # nobody else has it: it may be overwritten
        else:
            wide, wide_inner = self.kept("wide"), kept.get(self._name("wide_inner"))
            to_wide = torch.empty_like(wide, dtype=product_dtype(wide.device, wide.dtype))
        to_output = in_product_dtype(self.sublayers[1].gate_backward(gradient, kept.get(self._name("mlp_adds"))))
        to_narrow, to_inner = self._to_input(_NARROW, to_output)
        narrow = self.pieces.activate_backward(to_narrow, wide, to_wide)
        self._to_trained(_NARROW, narrow, kept.get(self._name("narrow_inner")), to_output, to_inner)
        del to_narrow, narrow, to_output
        to_modulated, to_inner = self._to_input(_WIDE, to_wide)
        if self.loras[_WIDE] is not None:
            modulated = self._modulate(middle, 1)[0] if modulated is None else modulated
            self._to_trained(_WIDE, modulated, wide_inner, to_wide, to_inner)
        del modulated, to_wide, wide
        mean, rstd = self.kept("middle_mean"), self.kept("middle_rstd")
        to_middle = self.sublayers[1].norm_backward(to_modulated, middle, mean, rstd, gradient)
        added = kept.get(self._name("attention_adds"))
        to_output = in_product_dtype(self.sublayers[0].gate_backward(to_middle, added))
        to_attended, to_inner = self._to_input(_OUT, to_output)
        self._to_trained(_OUT, attended, kept.get(self._name("attended_inner")), to_output, to_inner)
        out.copy_(to_attended)
        return to_middle

    def project_again(self) -> Tensor:
        """What `project` gave."""
        if not self.stream.recomputes:
            return self.kept("raw")
        self._modulated, *_ = self._modulate(self.kept("x"), 0)
        raw, _ = self._linear(_QKV, self._modulated, self.run.kept.get(self._name("inner")))
        return self._as_heads(raw)

    def project_backward(self, gradients: Sequence[Tensor], raw: Tensor, to_x: Tensor) -> Tensor | None:
        """The gradient of x; None if it is not wanted.

        Args:
            gradients: of queries, keys and values, each [B, n, heads, head size].
            raw: what `project_again` gave; may be overwritten if it was made again.
            to_x: what `finish_backward` returned.
        """
        x, heads = self.kept("x"), raw[:, :, :2]
        to_turned = torch.empty(heads.shape, dtype=torch.float32, device=heads.device)
        to_turned[:, :, 0] = gradients[0]
        to_turned[:, :, 1] = gradients[1]
        dtype = product_dtype(raw.device, raw.dtype)
        to_raw = raw if self.stream.recomputes and raw.dtype == dtype else torch.empty_like(raw, dtype=dtype)
        to_raw[:, :, :2] = self.stream.norm.backward(to_turned, heads, self.kept("rrms"), self.rotation)
        to_raw[:, :, 2] = gradients[2]
        del to_turned
        to_raw = to_raw.flatten(2)
        modulated = self._modulated
        if self.loras[_QKV] is not None:
            inner = self.kept("inner")
            modulated = self._modulate(x, 0)[0] if modulated is None else modulated
            to_inner = self.stream.linears[_QKV].to_inner(to_raw.flatten(0, 1), self.loras[_QKV])
            self._to_trained(_QKV, modulated, inner, to_raw, to_inner)
        self._modulated = modulated = None
        if not self.run.needs_input and not self.stream.modulator.is_trained:
            return None
        to_modulated, _ = self._to_input(_QKV, to_raw)
        found = self.sublayers[0].norm_backward(to_modulated, x, self.kept("mean"), self.kept("rstd"), to_x)
        return found if self.run.needs_input else None

    def modulation_backward(self) -> list[list[Tensor]]:
        """The gradients of what is trained at each linear that makes the modulation; comes last."""
        gradients = [gradient for sublayer in self.sublayers for gradient in sublayer.gradients]
        return self.stream.modulator.backward(gradients, self.run)

    def kept(self, name: str) -> Tensor:
        """What `project` and `finish` have kept."""
        return self.run.kept[self._name(name)]

    def _modulate(self, x: Tensor, sublayer: int) -> tuple[Tensor, Tensor, Tensor]:
        by = self.sublayers[sublayer].by
        return self.pieces.modulate(x, by.shift, by.weight, self.stream.eps)

    def _keep(self, **tensors: Tensor | None) -> None:
        self.run.keep(**{self._name(name): tensor for name, tensor in tensors.items()})

    def _name(self, name: str) -> str:
        return f"{self.stream.name} {name}"

    def _as_heads(self, raw: Tensor) -> Tensor:
        return raw.unflatten(-1, (3, -1, self.stream.norm.head_size))

    def _linear(self, index: int, x: Tensor, inner: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        linear, frozen, lora = self.stream.linears[index], self.frozen[index], self.loras[index]
        output, inner = linear.forward(x.flatten(0, 1), frozen, lora, inner)
        return output.view(*x.shape[:2], -1), inner

    def _to_input(self, index: int, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients of a linear's input and of what is between its A and B."""
        linear, lora, flat = self.stream.linears[index], self.loras[index], gradient.flatten(0, 1)
        to_inner = linear.to_inner(flat, lora)
        return linear.to_input(flat, self.frozen[index], lora, to_inner).view(*gradient.shape[:2], -1), to_inner

    def _to_trained(
        self, index: int, x: Tensor, inner: Tensor | None, gradient: Tensor, to_inner: Tensor | None
    ) -> None:
        linear, lora = self.stream.linears[index], self.loras[index]
        found = linear.to_trained([x.flatten(0, 1)], inner, gradient.flatten(0, 1), to_inner, lora)
        if found is not None and lora is not None:
            self.found[index] = found.tensors(lora)
