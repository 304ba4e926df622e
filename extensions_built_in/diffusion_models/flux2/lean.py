"""FLUX.2's blocks, for the backward pass written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import (
    Flux2AttnProcessor,
    Flux2ParallelSelfAttnProcessor,
    Flux2SingleTransformerBlock,
    Flux2TransformerBlock,
)

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
from extensions_built_in.diffusion_models.lean.linear import lean_linear
from extensions_built_in.diffusion_models.lean.modulation import GivenModulation
from extensions_built_in.diffusion_models.lean.pieces import Pieces, modulations
from extensions_built_in.diffusion_models.lean.run import Program
from extensions_built_in.diffusion_models.lean.single_block import SingleBlock

_FEEDS = (("ff.linear_in", "ff.linear_out"), ("ff_context.linear_in", "ff_context.linear_out"))


def attach_lean(transformer: Flux2Transformer2DModel, device_of: DeviceOf, *, keeps: float) -> list[LeanForward]:
    """See `lean.forward.attach`."""
    modulators = (
        transformer.time_guidance_embed,
        transformer.double_stream_modulation_img,
        transformer.double_stream_modulation_txt,
        transformer.single_stream_modulation,
    )
    shared = Shared(lambda values, like: modulations(values, width=like.shape[-1]), modulators, Pieces())
    lists = ((transformer.transformer_blocks, _DOUBLE), (transformer.single_transformer_blocks, _SINGLE))
    return attach(lists, shared, device_of, keeps=keeps)


def _call_double(found: Mapping[str, Any]) -> Call:
    inputs = [found["hidden_states"], found["encoder_hidden_states"]]
    mods = [found["temb_mod_img"], found["temb_mod_txt"]]
    return Call(inputs, mods, found.get("image_rotary_emb"), found.get("joint_attention_kwargs"))


def _call_single(found: Mapping[str, Any]) -> Call:
    extra = found.get("encoder_hidden_states") is not None or found.get("split_hidden_states")
    extra = extra or found.get("joint_attention_kwargs")
    return Call([found["hidden_states"]], [found["temb_mod"]], found.get("image_rotary_emb"), extra)


def _double(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    require(block, Flux2TransformerBlock, block.attn.processor, Flux2AttnProcessor)
    eps = block.norm1.eps, block.norm1_context.eps
    return double_block(
        block,
        _FEEDS,
        lambda index, _: GivenModulation(6 * index, num_sublayers=2),
        eps,
        device_of,
        pieces,
        recomputes=recomputes,
    )


def _single(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    attention = block.attn
    require(block, Flux2SingleTransformerBlock, attention.processor, Flux2ParallelSelfAttnProcessor)
    into, out = lean_linear(attention.to_qkv_mlp_proj), lean_linear(attention.to_out)
    norm = head_norm(attention.norm_q, attention.norm_k, device_of, pieces)
    by = GivenModulation(0, num_sublayers=1)
    return SingleBlock(into, out, by, norm, eps=block.norm.eps, recomputes=recomputes)


_DOUBLE = BlockKind(
    (
        "hidden_states",
        "encoder_hidden_states",
        "temb_mod_img",
        "temb_mod_txt",
        "image_rotary_emb",
        "joint_attention_kwargs",
    ),
    _call_double,
    _double,
)
_SINGLE = BlockKind(
    ("hidden_states", "encoder_hidden_states", "temb_mod", "image_rotary_emb", "joint_attention_kwargs"),
    _call_single,
    _single,
)
