"""FLUX.1's blocks, for the backward pass written by hand.

Each makes its modulation with a layer of its own, which carries a LoRA like every other. Single blocks take and give
text and image apart, but compute on one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.activations import GELU
from diffusers.models.transformers.transformer_flux import (
    FluxAttnProcessor,
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from torch import Tensor
from torch.nn import functional

from extensions_built_in.diffusion_models.lean import pieces as piece
from extensions_built_in.diffusion_models.lean.double_block import double_block
from extensions_built_in.diffusion_models.lean.forward import (
    BlockKind,
    Call,
    DeviceOf,
    LeanForward,
    Shared,
    attach,
    head_norm,
    require,
)
from extensions_built_in.diffusion_models.lean.linear import LeanLinear, lean_linear
from extensions_built_in.diffusion_models.lean.modulation import MadeModulation
from extensions_built_in.diffusion_models.lean.pieces import Pieces
from extensions_built_in.diffusion_models.lean.run import Pass, Program
from extensions_built_in.diffusion_models.lean.single_block import SingleBlock

_NAMES = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "joint_attention_kwargs")
_FEEDS = (("ff.net.0.proj", "ff.net.2"), ("ff_context.net.0.proj", "ff_context.net.2"))


def attach_lean(transformer: FluxTransformer2DModel, device_of: DeviceOf, *, keeps: float) -> list[LeanForward]:
    """See `lean.forward.attach`."""
    pieces = replace(Pieces(), activate=piece.gelu, activate_backward=piece.gelu_backward)
    shared = Shared(lambda values, like: [functional.silu(values)], (transformer.time_text_embed,), pieces)
    lists = (
        (transformer.transformer_blocks, BlockKind(_NAMES, _call, _double)),
        (transformer.single_transformer_blocks, BlockKind(_NAMES, _call, _single)),
    )
    return attach(lists, shared, device_of, keeps=keeps)


class SplitBlock:
    """A single block that takes and gives image and text apart.

    Args:
        whole: the same on one sequence, in which the text comes first.
    """

    num_inputs: int = 2

    def __init__(self, whole: SingleBlock) -> None:
        self.linears: Sequence[LeanLinear] = whole.linears
        self._whole = whole

    def forward(self, inputs: Sequence[Tensor], run: Pass) -> tuple[Tensor, ...]:
        """See Program."""
        image, text = inputs
        (whole,) = self._whole.forward([torch.cat([text, image], dim=1)], run)
        return whole[:, text.shape[1] :], whole[:, : text.shape[1]]

    def backward(
        self, gradients: Sequence[Tensor], run: Pass
    ) -> tuple[Sequence[Tensor | None], Sequence[Sequence[Tensor]]]:
        """See Program."""
        image, text = gradients
        (to_whole,), found = self._whole.backward([torch.cat([text, image], dim=1)], run)
        if to_whole is None:
            return [None, None], found
        return [to_whole[:, text.shape[1] :], to_whole[:, : text.shape[1]]], found


def _call(found: Mapping[str, Any]) -> Call:
    inputs = [found["hidden_states"], found["encoder_hidden_states"]]
    return Call(inputs, [found["temb"]], found.get("image_rotary_emb"), found.get("joint_attention_kwargs"))


def _double(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    require(block, FluxTransformerBlock, block.attn.processor, FluxAttnProcessor)
    assert all(type(feed.net[0]) is GELU and feed.net[0].approximate == "tanh" for feed in (block.ff, block.ff_context))
    norms = block.norm1, block.norm1_context

    def modulator(index: int, width: int) -> MadeModulation:
        name = ("image", "text")[index]
        return MadeModulation(name, lean_linear(norms[index].linear), place=8 + index, width=width)

    eps = [norm.norm.eps for norm in norms]
    return double_block(block, _FEEDS, modulator, eps, device_of, pieces, recomputes=recomputes)


def _single(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    attention = block.attn
    require(block, FluxSingleTransformerBlock, attention.processor, FluxAttnProcessor)
    into = lean_linear(attention.to_q, attention.to_k, attention.to_v, block.proj_mlp)
    out = lean_linear(block.proj_out)
    norm = head_norm(attention.norm_q, attention.norm_k, device_of, pieces)
    by = MadeModulation("block", lean_linear(block.norm.linear), place=2, width=out.outputs)
    return SplitBlock(SingleBlock(into, out, by, norm, eps=block.norm.norm.eps, recomputes=recomputes))
