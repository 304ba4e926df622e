"""The single block: attention and MLP side by side, between one projection in and one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.lean.linear import LeanLinear
from extensions_built_in.diffusion_models.lean.lora import Lora, LoraGradients, in_product_dtype
from extensions_built_in.diffusion_models.lean.modulation import Modulator, Sublayer
from extensions_built_in.diffusion_models.lean.pieces import (
    HeadNorm,
    Modulation,
    Rotation,
)
from extensions_built_in.diffusion_models.lean.run import Pass
from toolkit.runtime.devices import product_dtype


class SingleBlock:
    """Forward and backward of a block whose own weights are frozen.

    What it is given ends with the rotation forward and back.
    Kept per token, in channels of the hidden size h: the input (1), the attention's output (1) and, unless it is
    recomputed, the output of the first projection (9 if the MLP is gated, else 7). If its modulation is trained, also
    what the block adds, before the gate (1).
    If only some tokens of its output are read, the others are keys and values for them, and leave as they came.

    Args:
        into, out: its projections from h (to q, k, v and the MLP's inside) and to h (from attention and MLP).
        modulator: where its modulation comes from; its linears come last in the block.
        norm: its norms of queries and keys.
        eps: of the norm of the residual stream.
        recomputes: whether backward makes the first projection again.
    """

    num_inputs: int = 1

    def __init__(
        self,
        into: LeanLinear,
        out: LeanLinear,
        modulator: Modulator,
        norm: HeadNorm,
        *,
        eps: float,
        recomputes: bool,
    ) -> None:
        self.into = into
        self.out = out
        self.modulator = modulator
        self.linears: Sequence[LeanLinear] = (into, out, *modulator.linears)
        self.norm = norm
        self.pieces = norm.pieces
        self.recomputes = recomputes
        self.eps = eps
        self.width = out.outputs
        self.head_size = norm.head_size
        self.into_others = into.of_rows(self.width, 3 * self.width)
        self.norm_others = norm.of_keys()

    def forward(self, inputs: Sequence[Tensor], run: Pass) -> tuple[Tensor, ...]:
        """See Program."""
        (x,) = inputs  # [B, n, h]
        (by,) = self.modulator.forward(run)
        modulated, mean, rstd = self._modulate(x, by)
        made = self._project(modulated, run)
        heads, _, mlp = self._parts(made.projected)
        rrms = self.norm.rrms(heads)
        rrms_others = None if made.others is None else self.norm_others.rrms(self._other_parts(made.others)[0])
        attended = run.attended(*self._joined(made, rrms, rrms_others, run), dtype=x.dtype).flatten(2)  # [B, m, h]
        both = attended.new_empty((*attended.shape[:2], self.out.inputs))
        both[..., : self.width] = attended
        self.pieces.activate(mlp, both[..., self.width :])
        output, outer = self.out.forward(both.flatten(0, 1), run.frozen[1], run.loras[1])
        run.keep(x=x, mean=mean, rstd=rstd, rrms=rrms, rrms_others=rrms_others, outer=outer)
        run.keep(inner=made.inner, inner_others=made.inner_others)
        if not self.recomputes:
            run.keep(projected=made.projected, others=made.others)
        mine = _read(x, run)
        output = output.view_as(mine)
        if self.modulator.is_trained:
            run.keep(adds=output)
        result = torch.addcmul(mine, by.gate, output)
        if run.read is None:
            return (result,)
        whole = x.clone()
        whole[:, run.read] = result
        return (whole,)

    def backward(
        self, gradients: Sequence[Tensor], run: Pass
    ) -> tuple[Sequence[Tensor | None], Sequence[Sequence[Tensor]]]:
        """See Program."""
        (gradient,), (by,), kept = gradients, self.modulator.again(run), run.kept
        sublayer = Sublayer(by, self.pieces, is_trained=self.modulator.is_trained)
        x, lora_in, lora_out = kept["x"], run.loras[0], run.loras[1]
        modulated = None
        if self.recomputes:
            modulated, *_ = self._modulate(x, by)
            made = self._project(modulated, run)
            to_made = made  # nobody else has it: it may be overwritten
        else:
            made = _Made(kept["projected"], kept.get("inner"), kept.get("others"), kept.get("inner_others"))
        projected, dtype = made.projected, product_dtype(x.device, made.projected.dtype)
        if not self.recomputes or projected.dtype != dtype:
            to_made = _Made(torch.empty_like(projected, dtype=dtype))
        if made.others is not None:
            to_made = replace(to_made, others=torch.empty_like(made.others, dtype=dtype))
        to_projected = to_made.projected

        to_output = sublayer.gate_backward(_read(gradient, run), kept.get("adds")).flatten(0, 1).to(dtype)
        to_outer = self.out.to_inner(to_output, lora_out)
        to_both = self.out.to_input(to_output, run.frozen[1], lora_out, to_outer).view(*projected.shape[:2], -1)
        values = self._parts(projected)[2]
        to_values = values if to_projected is projected else self._parts(to_projected)[2]
        mlp = self.pieces.activate_backward(to_both[..., self.width :], values, to_values)
        columns = (kept["attended"].flatten(2).flatten(0, 1), mlp.flatten(0, 1))
        found_out = _listed(self.out.to_trained(columns, kept.get("outer"), to_output, to_outer, lora_out), lora_out)
        del mlp, columns, to_output
        if not run.needs_input and not sublayer.is_trained and lora_in is None:
            return [None], [[], found_out, *self.modulator.backward([], run)]

        self._attention_backward(to_both[..., : self.width], made, to_made, run)
        del to_both
        if lora_in is not None and modulated is None:
            modulated, *_ = self._modulate(x, by)
        to_modulated, found_in = self._project_backward(to_made, made, modulated, run)
        to_x = None
        if to_modulated is not None:
            to_x = sublayer.norm_backward(to_modulated, x, kept["mean"], kept["rstd"], gradient)
        found = [_listed(found_in, lora_in), found_out, *self.modulator.backward(sublayer.gradients, run)]
        return [to_x if run.needs_input else None], found

    def _modulate(self, x: Tensor, by: Modulation) -> tuple[Tensor, Tensor, Tensor]:
        return self.pieces.modulate(x, by.shift, by.weight, self.eps)

    def _project(self, modulated: Tensor, run: Pass) -> _Made:
        mine = _read(modulated, run)
        projected, inner = self.into.forward(mine.flatten(0, 1), run.frozen[0], run.loras[0], run.kept.get("inner"))
        made = _Made(projected.view(*mine.shape[:2], -1), inner)  # [B, m, 9 h]
        if run.read is None:
            return made
        rest = _unread(modulated, run)
        lora, inner = self._lora_others(run), run.kept.get("inner_others")
        others, inner = self.into_others.forward(rest.flatten(0, 1), run.frozen[0], lora, inner)
        return replace(made, others=others.view(*rest.shape[:2], -1), inner_others=inner)  # [B, n - m, 2 h]

    def _project_backward(
        self, gradients: _Made, made: _Made, modulated: Tensor | None, run: Pass
    ) -> tuple[Tensor | None, LoraGradients | None]:
        """The gradients of the modulated input, if it is wanted, and of what is trained at the projection."""
        lora, flat = run.loras[0], gradients.projected.flatten(0, 1)
        to_inner = self.into.to_inner(flat, lora)
        found = None
        if modulated is not None:
            columns = [_read(modulated, run).flatten(0, 1)]
            found = self.into.to_trained(columns, made.inner, flat, to_inner, lora)
        to_mine = None
        if run.needs_input or self.modulator.is_trained:
            to_mine = self.into.to_input(flat, run.frozen[0], lora, to_inner).view(*made.projected.shape[:2], -1)
        if gradients.others is None:
            return to_mine, found
        others, flat = self._lora_others(run), gradients.others.flatten(0, 1)
        to_inner = self.into_others.to_inner(flat, others)
        if modulated is not None and found is not None and lora is not None:
            columns = [_unread(modulated, run).flatten(0, 1)]
            more = self.into_others.to_trained(columns, made.inner_others, flat, to_inner, others)
            if more is not None:
                found.add_rows(more, lora, self.width, 3 * self.width)
        if to_mine is None:
            return None, found
        to_rest = self.into_others.to_input(flat, run.frozen[0], others, to_inner)
        return _together(to_mine, to_rest.view(*gradients.others.shape[:2], -1), run), found

    def _joined(
        self, made: _Made, rrms: Tensor, rrms_others: Tensor | None, run: Pass
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, tokens, heads, head size]; tokens that are not read come last."""
        heads, value, _ = self._parts(made.projected)
        rotation = _rotation(run)
        turned = self.norm.forward(heads, rrms, rotation if run.read is None else rotation.of_tokens(run.read))
        query, key = turned.to(product_dtype(heads.device, heads.dtype)).unbind(2)
        value = in_product_dtype(value)
        if made.others is None or rrms_others is None:
            return query, key, value
        other_heads, other_value = self._other_parts(made.others)
        other_key = self.norm_others.forward(other_heads, rrms_others, _unread_rotation(run)).to(key.dtype)
        return query, torch.cat([key, other_key.squeeze(2)], dim=1), torch.cat([value, other_value], dim=1)

    def _attention_backward(self, gradient: Tensor, made: _Made, out: _Made, run: Pass) -> None:
        """Write the gradients of raw queries, keys and values to their columns of `out`, which may be `made`."""
        heads, value, _ = self._parts(made.projected)
        rrms, rrms_others, rotation = run.kept["rrms"], run.kept.get("rrms_others"), _rotation(run)
        inputs = self._joined(made, rrms, rrms_others, run)
        to_query, to_key, to_value = run.attended_backward(gradient.view_as(value), *inputs)
        del inputs
        count = heads.shape[1]
        to_turned = torch.empty(heads.shape, dtype=torch.float32, device=heads.device)
        to_turned[:, :, 0] = to_query
        to_turned[:, :, 1] = to_key[:, :count]
        to_heads, to_raw_value, _ = self._parts(out.projected)
        mine = rotation if run.read is None else rotation.of_tokens(run.read)
        to_heads.copy_(self.norm.backward(to_turned, heads, rrms, mine))
        to_raw_value.copy_(to_value[:, :count])
        if made.others is not None and out.others is not None and rrms_others is not None:
            other_heads, _ = self._other_parts(made.others)
            to_other_heads, to_other_value = self._other_parts(out.others)
            to_turned = to_key[:, count:].unsqueeze(2).float()
            to_other_heads.copy_(self.norm_others.backward(to_turned, other_heads, rrms_others, _unread_rotation(run)))
            to_other_value.copy_(to_value[:, count:])

    def _lora_others(self, run: Pass) -> Lora | None:
        lora = run.loras[0]
        return None if lora is None else lora.of_rows(self.width, 3 * self.width)

    def _parts(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views: queries and keys [B, m, 2, heads, head size], values [B, m, heads, head size], the MLP's inside."""
        width = self.width
        heads = projected[..., : 2 * width].unflatten(-1, (2, -1, self.head_size))
        value = projected[..., 2 * width : 3 * width].unflatten(-1, (-1, self.head_size))
        return heads, value, projected[..., 3 * width :]

    def _other_parts(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """Views: keys [B, n - m, 1, heads, head size] and values [B, n - m, heads, head size]."""
        keys, values = others.unflatten(-1, (2, -1, self.head_size)).split(1, dim=2)
        return keys, values.squeeze(2)


@dataclass(frozen=True)
class _Made:
    """What the first projection gives, or gradients of that.

    Attributes:
        projected: of the tokens that are read, [B, m, N].
        inner: what is between A and B there.
        others: keys and values of the other tokens, [B, n - m, 2 h]; None if all are read.
        inner_others: what is between A and B there.
    """

    projected: Tensor
    inner: Tensor | None = None
    others: Tensor | None = None
    inner_others: Tensor | None = None


def _listed(gradients: LoraGradients | None, lora: Lora | None) -> list[Tensor]:
    return [] if gradients is None or lora is None else gradients.tensors(lora)


def _rotation(run: Pass) -> Rotation:
    return Rotation(*run.given[-2:])


def _unread_rotation(run: Pass) -> Rotation:
    rotation = _rotation(run)
    return Rotation(*(_unread(part.unsqueeze(0), run).squeeze(0) for part in (rotation.forward, rotation.back)))


def _read(x: Tensor, run: Pass) -> Tensor:
    """The tokens that are read, of all tokens [B, n, ...]."""
    return x if run.read is None else x[:, run.read]


def _unread(x: Tensor, run: Pass) -> Tensor:
    """The other tokens of all tokens [B, n, ...]."""
    assert run.read is not None
    return torch.cat([x[:, : run.read.start], x[:, run.read.stop :]], dim=1)


def _together(read: Tensor, unread: Tensor, run: Pass) -> Tensor:
    """All tokens in their order."""
    assert run.read is not None
    start = run.read.start
    return torch.cat([unread[:, :start], read, unread[:, start:]], dim=1)
