"""The forward of a block in place of its own: with the backward pass written by hand, where that knows all it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from extensions_built_in.diffusion_models.lean.linear import NotLean
from extensions_built_in.diffusion_models.lean.pieces import HeadNorm, Pieces, Rotation, rotation_of
from extensions_built_in.diffusion_models.lean.reads import READ
from extensions_built_in.diffusion_models.lean.run import Program, run_lean
from toolkit.compute.attention import attend, kernel_in
from toolkit.runtime.devices import linear_dtype

DeviceOf = Callable[[nn.Module], torch.device]


@dataclass(frozen=True)
class Call:
    """What a block is called with.

    Attributes:
        inputs: its hidden states, each [B, n, h]; the image's before the text's.
        modulators: what it is modulated by, each [B, ...].
        rotary: cosines and sines.
        extra: whatever else is given; a lean pass knows none.
    """

    inputs: Sequence[Tensor]
    modulators: Sequence[Tensor]
    rotary: tuple[Tensor, Tensor] | None
    extra: Any = None


class Build(Protocol):
    """Makes the program of a block."""

    def __call__(self, block: Any, device_of: DeviceOf, pieces: Pieces, *, recomputes: bool) -> Program:
        """Raises NotLean if the block does anything that the program does not know."""
        ...


@dataclass(frozen=True)
class BlockKind:
    """A class of blocks.

    Attributes:
        names: of its forward's arguments, in their order.
        call: those arguments by name -> what they are.
        build: makes the program of a block.
    """

    names: Sequence[str]
    call: Callable[[Mapping[str, Any]], Call]
    build: Build


class LeanForward:
    """The forward of one block in place of its class's: lean if a gradient is wanted, else the class's own.

    Args:
        block: the block.
        kind: its class.
        shared: what all blocks of the transformer make of their arguments.
        device_of: the device that a layer computes on.
        keeps: what it keeps for backward. 0: its inputs only, because its caller runs it again before its backward
            pass; 1: also the attention's output; 2: all that it needs.

    Attributes:
        is_last: whether nothing but the transformer's output layers reads its output.
        reason: why it has autograd's backward pass; None if it has its own.
        shared: what all blocks of the transformer make of their arguments.
    """

    def __init__(self, block: nn.Module, kind: BlockKind, shared: Shared, device_of: DeviceOf, *, keeps: int) -> None:
        self.block: Any = block
        self.keeps = keeps
        self.is_last = False
        self.shared = shared
        self._kind = kind
        self._device_of = device_of
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
        call = self._call(*arguments, **named)
        if self._program is None or call.rotary is None or call.extra:
            return False
        wanted, dtype = any(x.requires_grad for x in call.inputs), linear_dtype(call.inputs[0])
        is_known = dtype in (torch.bfloat16, torch.float32) and all(x.dtype == dtype for x in call.inputs)
        is_plain = all(values.ndim == 2 and not values.requires_grad for values in call.modulators)
        return is_known and is_plain and (wanted or any(linear.num_trained for linear in self._program.linears))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the block."""
        if not self.takes(*arguments, **named):
            return type(self.block).forward(self.block, *arguments, **named)
        call = self._call(*arguments, **named)
        assert call.rotary is not None
        given = [tensor for values in call.modulators for tensor in self.shared.given(values, call.inputs[0])]
        rotation = self.shared.rotation(call.rotary)
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
        given += [rotation.forward, rotation.back]
        outputs = run_lean(self._program, call.inputs, given, run_attention, read=read)
        return outputs[0] if len(outputs) == 1 else (outputs[1], outputs[0])  # diffusers' blocks give the text first

    def _call(self, *arguments: Any, **named: Any) -> Call:
        return self._kind.call(dict(zip(self._kind.names, arguments, strict=False)) | named)

    def _count_hooks(self) -> tuple[int, ...]:
        return tuple(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in self._layers)

    def build(self) -> None:
        """Look at the block again."""
        try:
            if self.shared.reason is not None:
                raise NotLean(self.shared.reason)
            recomputes = self.keeps == 1
            made = self._kind.build(self.block, self._device_of, self.shared.pieces, recomputes=recomputes)
            self._program, self.reason = made, None
        except NotLean as why:
            self._program, self.reason = None, str(why)


class Shared:
    """What the blocks of a transformer make of the arguments that all of them get: made once for each pass.

    Args:
        given_of: what a block's program is given, from what the block is modulated by and a residual stream; new
            tensors, because a view would keep the former alive, whose end is the end of what was made of it.
        modulators: the layers that make what blocks are modulated by.
        pieces: computes what is between linears and attention.

    Attributes:
        reason: why none of the blocks can have the lean backward pass; None if they can.
        pieces: see above.
    """

    def __init__(
        self, given_of: Callable[[Tensor, Tensor], list[Tensor]], modulators: Sequence[nn.Module], pieces: Pieces
    ) -> None:
        is_trained = any(weight.requires_grad for layer in modulators for weight in layer.parameters())
        self.reason = "what modulates it is trained" if is_trained else None
        self.pieces = pieces
        self._given_of = given_of
        self._given: Any = WeakTensorKeyDictionary()
        self._rotations: Any = WeakTensorKeyDictionary()

    def given(self, values: Tensor, like: Tensor) -> list[Tensor]:
        """What the programs are given instead of `values`; `like` is a residual stream."""
        found: list[Tensor] | None = self._given.get(values)
        if found is None:
            with torch.no_grad():
                found = self._given[values] = self._given_of(values.to(like.dtype), like)
        return found

    def rotation(self, rotary: tuple[Tensor, Tensor]) -> Rotation:
        """See `pieces.rotation_of`."""
        found: Rotation | None = self._rotations.get(rotary[0])
        if found is None:
            found = self._rotations[rotary[0]] = rotation_of(*rotary)
        return found


def attach(
    lists: Sequence[tuple[nn.ModuleList, BlockKind]], shared: Shared, device_of: DeviceOf, *, keeps: float
) -> list[LeanForward]:
    """Give each block of a loaded transformer its lean forward; what is trained may be attached before or after.

    Args:
        lists: the blocks in the order of the forward pass, with their classes.
        shared: what they make of their arguments.
        device_of: the device that a layer computes on.
        keeps: what blocks keep for backward, see `LeanForward`; in between, the last blocks of each list keep more.
    """
    found = []
    for blocks, kind in lists:
        level = int(keeps)
        first_more = len(blocks) - int((keeps - level) * len(blocks) + 1e-9)
        for index, block in enumerate(blocks):
            lean = LeanForward(block, kind, shared, device_of, keeps=level + (index >= first_more))
            block.forward = lean
            found.append(lean)
    found[-1].is_last = True
    return found


def require(block: nn.Module, kind: type, processor: Any, attends: type) -> None:
    """Raises NotLean unless the block does what its class does."""
    if type(block) is not kind or type(processor) is not attends:
        raise NotLean("its attention is of another kind")
    for layer in block.modules():
        is_linear = isinstance(layer, nn.Linear)  # looked at by `lean_linear`
        if layer is not block and not is_linear and (layer._forward_hooks or layer._forward_pre_hooks):
            raise NotLean("an adapter changes its layers")
        if isinstance(layer, nn.RMSNorm) and layer.weight.requires_grad:
            raise NotLean("its own weights are trained")


def head_norm(query: Any, key: Any, device_of: DeviceOf, pieces: Pieces) -> HeadNorm:
    """The norms of queries and keys."""
    return HeadNorm((query, key), device_of(query), pieces)
