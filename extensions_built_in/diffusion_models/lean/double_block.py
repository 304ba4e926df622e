"""The double block: a stream of text and a stream of image with weights of their own, which attend to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.lean.forward import DeviceOf, head_norm
from extensions_built_in.diffusion_models.lean.linear import LeanLinear, lean_linear
from extensions_built_in.diffusion_models.lean.modulation import Modulator
from extensions_built_in.diffusion_models.lean.pieces import Modulation, Pieces, Rotation
from extensions_built_in.diffusion_models.lean.run import Pass
from extensions_built_in.diffusion_models.lean.stream import Stream, StreamPass
from toolkit.runtime.devices import product_dtype

NUM_LINEARS = 4
_NAMES = ("image", "text")
_ATTENTION = (
    (("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.to_out.0",)),
    (("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"), ("attn.to_add_out",)),
)


class DoubleBlock:
    """Forward and backward of a block whose own weights are frozen.

    It takes and gives the image and the text. What it is given ends with the rotation forward and back. Text comes
    first in the attention.

    Args:
        image, text: its streams, which say what is kept. Their linears come first in the block: the image's, the
            text's, then those of their modulators, in the same order.
    """

    num_inputs: int = 2

    def __init__(self, image: Stream, text: Stream) -> None:
        self.streams = (image, text)
        linears = [linear for stream in self.streams for linear in stream.linears]
        linears += [linear for stream in self.streams for linear in stream.modulator.linears]
        self.linears: Sequence[LeanLinear] = linears

    def forward(self, inputs: Sequence[Tensor], run: Pass) -> tuple[Tensor, ...]:
        """See Program."""
        by = [stream.modulator.forward(run) for stream in self.streams]
        passes = self._passes(run, by, num_image=inputs[0].shape[1], num_text=inputs[1].shape[1])
        raws = [one.project(x) for one, x in zip(passes, inputs, strict=True)]
        attended = run.attended(*_joined(passes, raws), dtype=inputs[0].dtype).flatten(2)  # [B, n, h]
        return tuple(one.finish(x, attended[:, one.tokens]) for one, x in zip(passes, inputs, strict=True))

    def backward(
        self, gradients: Sequence[Tensor], run: Pass
    ) -> tuple[Sequence[Tensor | None], Sequence[Sequence[Tensor]]]:
        """See Program."""
        image, text = gradients
        by = [stream.modulator.again(run) for stream in self.streams]
        passes = self._passes(run, by, num_image=image.shape[1], num_text=text.shape[1])
        attended = run.kept["attended"].flatten(2)
        to_attended = torch.empty_like(attended, dtype=product_dtype(attended.device, attended.dtype))
        past = [
            one.finish_backward(gradient, attended[:, one.tokens], to_attended[:, one.tokens])
            for one, gradient in zip(passes, gradients, strict=True)
        ]
        if not run.needs_input and not any(one.goes_further for one in passes):
            return [None, None], _found(passes)
        raws = [one.project_again() for one in passes]
        query, key, value = _joined(passes, raws)
        to_heads = run.attended_backward(to_attended.view_as(value), query, key, value)
        del query, key, value, to_attended
        to_inputs = [
            one.project_backward([part[:, one.tokens] for part in to_heads], raw, to_x)
            for one, raw, to_x in zip(passes, raws, past, strict=True)
        ]
        return to_inputs, _found(passes)

    def _passes(
        self, run: Pass, by: Sequence[Sequence[Modulation]], *, num_image: int, num_text: int
    ) -> list[StreamPass]:
        """The streams of one pass, image first."""
        *_, forward, back = run.given
        passes = []
        for index, tokens in enumerate((slice(num_text, num_text + num_image), slice(0, num_text))):
            passes.append(
                StreamPass(
                    self.streams[index],
                    run,
                    tokens=tokens,
                    by=by[index],
                    rotation=Rotation(forward, back).of_tokens(tokens),
                    linears=slice(index * NUM_LINEARS, (index + 1) * NUM_LINEARS),
                )
            )
        return passes


def _found(passes: Sequence[StreamPass]) -> list[list[Tensor]]:
    """The gradients of what is trained at each linear of the block."""
    modulations = [own for one in passes for own in one.modulation_backward()]
    return [own for one in passes for own in one.found] + modulations


def _joined(passes: Sequence[StreamPass], raws: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of text and image together, each [B, n, heads, head size], from raw ones."""
    batch, _, *sizes = raws[0].shape
    dtype = product_dtype(raws[0].device, raws[0].dtype)
    num_tokens = sum(raw.shape[1] for raw in raws)
    joined = raws[0].new_empty((batch, num_tokens, *sizes), dtype=dtype)  # [B, n, 3, heads, head size]
    for one, raw in zip(passes, raws, strict=True):
        joined[:, one.tokens, :2] = one.rotated(raw, one.kept("rrms"))
        joined[:, one.tokens, 2] = raw[:, :, 2]
    query, key, value = joined.unbind(2)
    return query, key, value


def double_block(
    block: Any,
    feeds: Sequence[tuple[str, str]],
    modulator: Callable[[int, int], Modulator],
    eps: Sequence[float],
    device_of: DeviceOf,
    pieces: Pieces,
    *,
    recomputes: bool,
) -> DoubleBlock:
    """The program of a block whose attention has the names that diffusers gives it in all FLUX models.

    Args:
        block: the block.
        feeds: names of the MLP's two layers, of the image and of the text; so are all sequences.
        modulator: makes a stream's modulator, given 0 for the image's or 1 for the text's, and the hidden size.
        eps: of the norms of the residual stream.
        device_of: the device that a layer computes on.
        pieces: what the block is computed with.
        recomputes: whether backward makes the layers that are wider than the hidden size again.

    Raises:
        NotLean: something else than one plain LoRA is attached to its layers.
    """
    attention = block.attn
    norms = ((attention.norm_q, attention.norm_k), (attention.norm_added_q, attention.norm_added_k))
    streams = []
    for index, (name, (wide, narrow)) in enumerate(zip(_NAMES, feeds, strict=True)):
        layers = (*_ATTENTION[index], (wide,), (narrow,))
        qkv, out, into, back = (lean_linear(*map(block.get_submodule, own)) for own in layers)
        heads = head_norm(*norms[index], device_of, pieces)
        by = modulator(index, out.outputs)
        streams.append(Stream(name, (qkv, out, into, back), by, heads, eps[index], recomputes))
    return DoubleBlock(*streams)
