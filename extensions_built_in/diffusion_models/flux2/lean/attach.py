"""Gives blocks of a FLUX.2 transformer the backward pass written by hand, if that knows all that they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_flux2 import (
    Flux2AttnProcessor,
    Flux2ParallelSelfAttnProcessor,
    Flux2SingleTransformerBlock,
    Flux2TransformerBlock,
)
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from extensions_built_in.diffusion_models.flux2.lean.compiled import compiled_pieces
from extensions_built_in.diffusion_models.flux2.lean.double_block import DoubleBlock
from extensions_built_in.diffusion_models.flux2.lean.linear import NotLean, lean_linear
from extensions_built_in.diffusion_models.flux2.lean.pieces import HeadNorm, Pieces, Rotation, modulations, rotation_of
from extensions_built_in.diffusion_models.flux2.lean.reads import READ
from extensions_built_in.diffusion_models.flux2.lean.run import Program, run_lean
from extensions_built_in.diffusion_models.flux2.lean.single_block import SingleBlock
from extensions_built_in.diffusion_models.flux2.lean.stream import Stream
from toolkit.compute.attention import attend, kernel_in
from toolkit.compute.compiler import Compiler
from toolkit.runtime.devices import linear_dtype

DeviceOf = Callable[[nn.Module], torch.device]


class LeanForward:
    """The forward of one block in place of its class's: lean if a gradient is wanted, else the class's own.

    Args:
        block: the block.
        shared: what all blocks of the transformer make of their arguments.
        device_of: the device that a layer computes on.
        keeps: what it keeps for backward. 0: its inputs only, because its caller runs it again before its backward
            pass; 1: also the attention's output; 2: all that it needs.

    Attributes:
        is_last: whether nothing but the transformer's output layers reads its output.
        reason: why it has autograd's backward pass; None if it has its own.
        shared: what all blocks of the transformer make of their arguments.
    """

    def __init__(self, block: nn.Module, shared: Shared, device_of: DeviceOf, *, keeps: int) -> None:
        self.block: Any = block
        self.keeps = keeps
        self.is_last = False
        self.shared = shared
        self._device_of = device_of
        self._is_single = isinstance(block, Flux2SingleTransformerBlock)
        self._layers = [layer for layer in block.modules() if layer is not block]
        self._hooks = self._count_hooks()
        self._program: Program | None = None
        self.reason: str | None = None
        self.build()

    @property
    def is_run_again(self) -> bool:
        """Whether it is run again as a whole before its backward pass."""
        return self.keeps == 0

    def takes(self, *arguments: Any, **named: Any) -> bool:
        """Whether a call with these arguments has the lean backward pass."""
        if not torch.is_grad_enabled():
            return False
        if self._hooks != self._count_hooks():
            self._hooks = self._count_hooks()
            self.build()
        inputs, mods, rotary, extra = self._arguments(*arguments, **named)
        if self._program is None or rotary is None or extra:
            return False
        wanted, dtype = any(x.requires_grad for x in inputs), linear_dtype(inputs[0])
        is_known = dtype in (torch.bfloat16, torch.float32) and all(x.dtype == dtype for x in inputs)
        is_plain = all(mod.ndim == 2 and not mod.requires_grad for mod in mods)
        return is_known and is_plain and (wanted or any(linear.num_trained for linear in self._program.linears))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the block."""
        if not self.takes(*arguments, **named):
            return type(self.block).forward(self.block, *arguments, **named)
        inputs, mods, rotary, _ = self._arguments(*arguments, **named)
        given = [tensor for mod in mods for tensor in self.shared.modulations(mod, like=inputs[0])]
        rotation = self.shared.rotation(rotary)
        processor = self.block.attn.processor
        kernel = None if processor._parallel_config is not None else kernel_in(processor)

        def run_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            if kernel is not None:  # diffusers copies what it gives to some kernels, which would be kept for backward
                return attend(query, key, value, kernel)
            attended: Tensor = dispatch_attention_fn(
                query, key, value, backend=processor._attention_backend, parallel_config=processor._parallel_config
            )
            return attended

        assert self._program is not None
        # Ranks that share a sequence hold other tokens of it each.
        read = READ.value if self.is_last and processor._parallel_config is None else None
        outputs = run_lean(self._program, inputs, (*given, rotation.forward, rotation.back), run_attention, read=read)
        return outputs[0] if self._is_single else (outputs[1], outputs[0])  # diffusers' blocks give the text first

    def _arguments(self, *arguments: Any, **named: Any) -> tuple[Sequence[Tensor], Sequence[Tensor], Any, Any]:
        """Hidden states, modulations, cosines and sines, and everything else that is given."""
        names = _SINGLE if self._is_single else _DOUBLE
        found = dict(zip(names, arguments, strict=False)) | named
        if self._is_single:
            extra = found.get("encoder_hidden_states") is not None or found.get("split_hidden_states")
            extra = extra or found.get("joint_attention_kwargs")
            return [found["hidden_states"]], [found["temb_mod"]], found.get("image_rotary_emb"), extra
        inputs = [found["hidden_states"], found["encoder_hidden_states"]]
        mods = [found["temb_mod_img"], found["temb_mod_txt"]]
        return inputs, mods, found.get("image_rotary_emb"), found.get("joint_attention_kwargs")

    def _count_hooks(self) -> tuple[int, ...]:
        return tuple(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in self._layers)

    def build(self) -> None:
        """Look at the block again."""
        try:
            if self.shared.reason is not None:
                raise NotLean(self.shared.reason)
            build = _single if self._is_single else _double
            made = build(self.block, self._device_of, self.shared.pieces, recomputes=self.keeps == 1)
            self._program, self.reason = made, None
        except NotLean as why:
            self._program, self.reason = None, str(why)


class Shared:
    """What the blocks of a transformer make of the arguments that all of them get: made once for each pass.

    Attributes:
        reason: why none of the blocks can have the lean backward pass; None if they can.
        pieces: computes what is between their linears and attention.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.pieces = Pieces()
        self._modulations: Any = WeakTensorKeyDictionary()
        self._rotations: Any = WeakTensorKeyDictionary()

    def modulations(self, values: Tensor, *, like: Tensor) -> list[Tensor]:
        """See `pieces.modulations`; `like` is a residual stream."""
        found: list[Tensor] | None = self._modulations.get(values)
        if found is None:
            with torch.no_grad():
                found = self._modulations[values] = modulations(values.to(like.dtype), width=like.shape[-1])
        return found

    def rotation(self, rotary: tuple[Tensor, Tensor]) -> Rotation:
        """See `pieces.rotation_of`."""
        found: Rotation | None = self._rotations.get(rotary[0])
        if found is None:
            found = self._rotations[rotary[0]] = rotation_of(*rotary)
        return found


def attach_lean(transformer: Any, device_of: DeviceOf, *, keeps: float) -> list[LeanForward]:
    """Give each block of a loaded transformer its lean forward; what is trained may be attached before or after.

    Args:
        transformer: the transformer.
        device_of: the device that a layer computes on.
        keeps: what blocks keep for backward, see `LeanForward`; in between, the last blocks of each kind keep more.
    """
    shared, found = Shared(), []
    modulators = (
        transformer.time_guidance_embed,
        transformer.double_stream_modulation_img,
        transformer.double_stream_modulation_txt,
        transformer.single_stream_modulation,
    )
    if any(parameter.requires_grad for layer in modulators for parameter in layer.parameters()):
        shared.reason = "what modulates it is trained"
    for blocks in (transformer.transformer_blocks, transformer.single_transformer_blocks):
        level = int(keeps)
        first_more = len(blocks) - int((keeps - level) * len(blocks) + 1e-9)
        for index, block in enumerate(blocks):
            block.forward = LeanForward(block, shared, device_of, keeps=level + (index >= first_more))
            found.append(block.forward)
    found[-1].is_last = True
    return found


def compile_lean(blocks: Sequence[LeanForward], compiler: Compiler) -> None:
    """Let blocks that have the lean backward pass compute with compiled pieces; tells how many, and why not others."""
    compiled = compiled_pieces(compiler)
    for shared in {id(block.shared): block.shared for block in blocks}.values():
        shared.pieces = compiled
    for block in blocks:
        block.build()
    others = Counter(block.reason for block in blocks if block.reason is not None)
    num_compiled = len(blocks) - others.total()
    parts = [f"{num_compiled} are compiled", *(f"{count} are not, because {why}" for why, count in others.items())]
    tell = compiler.notify if num_compiled else compiler.warn
    tell(f"model.compile: of {len(blocks)} blocks, {'; '.join(parts)}")


def describe(blocks: Sequence[LeanForward], *, recomputes: bool) -> str:
    """One line: what the blocks do in the backward pass, and why some have autograd's."""
    lean = Counter(block.keeps for block in blocks if block.reason is None)
    others = Counter(block.reason for block in blocks if block.reason is not None)
    general = "are recomputed by autograd" if recomputes else "keep what autograd keeps"
    parts = [
        *(f"{lean[keeps]} {what}" for keeps, what in reversed(_KEPT.items()) if lean[keeps]),
        *(f"{count} {general}, because {why}" for why, count in others.items()),
    ]
    return f"backward pass: of {len(blocks)} blocks, {'; '.join(parts)}"


_KEPT = {0: "are recomputed as a whole", 1: "recompute their wide projections", 2: "keep all that they need"}
_SINGLE = ("hidden_states", "encoder_hidden_states", "temb_mod", "image_rotary_emb", "joint_attention_kwargs")
_DOUBLE = (
    "hidden_states",
    "encoder_hidden_states",
    "temb_mod_img",
    "temb_mod_txt",
    "image_rotary_emb",
    "joint_attention_kwargs",
)


def _single(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    attention = block.attn
    _require(block, Flux2SingleTransformerBlock, attention.processor, Flux2ParallelSelfAttnProcessor)
    linears = (lean_linear(attention.to_qkv_mlp_proj), lean_linear(attention.to_out))
    norm = _head_norm(attention.norm_q, attention.norm_k, device_of, pieces)
    return SingleBlock(block, *linears, norm, recomputes=recomputes)


def _double(block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
    attention = block.attn
    _require(block, Flux2TransformerBlock, attention.processor, Flux2AttnProcessor)
    streams = []
    for name, norm, norms, layers in (
        ("image", block.norm1, (attention.norm_q, attention.norm_k), _IMAGE),
        ("text", block.norm1_context, (attention.norm_added_q, attention.norm_added_k), _TEXT),
    ):
        linears = tuple(lean_linear(*map(block.get_submodule, own)) for own in layers)
        heads = _head_norm(*norms, device_of, pieces)
        streams.append(
            Stream(name, linears, heads, norm.eps, attention.head_dim, recomputes, pieces)  # type: ignore[arg-type] # four
        )
    return DoubleBlock(*streams)


_IMAGE = (("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.to_out.0",), ("ff.linear_in",), ("ff.linear_out",))
_TEXT = (
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ("attn.to_add_out",),
    ("ff_context.linear_in",),
    ("ff_context.linear_out",),
)


def _require(block: nn.Module, kind: type, processor: Any, attends: type) -> None:
    """Raises NotLean unless the block does what its class does."""
    if type(block) is not kind or type(processor) is not attends:
        raise NotLean("its attention is of another kind")
    for layer in block.modules():
        is_linear = isinstance(layer, nn.Linear)  # looked at by `lean_linear`
        if layer is not block and not is_linear and (layer._forward_hooks or layer._forward_pre_hooks):
            raise NotLean("an adapter changes its layers")
        if isinstance(layer, nn.RMSNorm) and layer.weight.requires_grad:
            raise NotLean("its own weights are trained")


def _head_norm(query: Any, key: Any, device_of: DeviceOf, pieces: Pieces) -> HeadNorm:
    return HeadNorm((query, key), device_of(query), pieces)
