"""Layer offloading: frozen blocks live in host memory and are copied to the device shortly before they are used.

Each streamed block is one flat buffer on the host (`FlatBlock`). All blocks, of whatever kind, share a ring of device
buffers, each as large as the largest streamed block. Nothing is ever copied back: the host copy stays the original.

When copies are made: whenever a block begins (in forward, or when backward recomputes it), the computations of all
earlier blocks have been queued, and the ring is filled with the next streamed blocks in the current direction, starting
with this one. A copy into a buffer waits, on its own stream, for everything queued before it, so it never overwrites
data that is still needed. The block waits only for its own copy, so the next block arrives while this one computes (see
`SideStream`). The ring keeps its content between forward and backward and between steps.

Backward needs the weights again. With gradient checkpointing, the block's forward is run again and fetches them.
Without it, autograd would keep views of a buffer that is then overwritten, so it is given a handle instead, which
fetches the block when it is unpacked. Backward is done with a block before it enters an earlier one, because autograd
always runs the latest operation that is ready.

Compiling each block works if it is said beforehand: the hooks then stay outside the compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.hooks import RemovableHandle

from toolkit.memory.flat_block import FlatBlock
from toolkit.memory.side_stream import SideStream
from toolkit.units import as_size

RING_SIZE = 2


def choose_streamed(sizes: Sequence[int], share: float) -> list[int]:
    """Choose the blocks to stream: about `share` of the bytes, spread evenly over the model.

    The copy of a streamed block can then overlap with the resident blocks around it. The choice depends only on the
    arguments: going through the blocks, each adds `share` of its size to the bytes that should be streamed so far, and
    is streamed if that brings the actual sum closer. So 0 streams nothing, 1 everything, and the sum is off by at most
    half a block.

    Args:
        sizes: bytes of each block, in the order of the forward pass.
        share: share of the bytes to stream, 0..1.
    """
    chosen, missing = [], 0.0
    for index, size in enumerate(sizes):
        missing += share * size
        if size and missing >= size / 2:
            chosen.append(index)
            missing -= size
    return chosen


@dataclass
class _Buffer:
    """One buffer of the ring: the block it holds, and the event to wait for before using it."""

    data: Tensor
    block: int | None = None
    copied: Any = None


@dataclass(frozen=True)
class _Handle:
    """What autograd saves instead of a view of a streamed block's buffer; `offset` is in elements."""

    block: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _WrapperHandle:
    """The same for a tensor that is composed of other tensors."""

    kind: Any
    parts: dict[str, Any]
    context: Any
    shape: torch.Size
    stride: tuple[int, ...]


class LayerOffload:
    """Streams some of a model's blocks through a ring of device buffers.

    Args:
        blocks: all blocks of the model in the order of its forward pass. Their frozen tensors are streamed; trained
            ones stay on the device.
        streamed: indices of the blocks to stream.
        device: the device that the model runs on.
        ring_size: number of buffers on the device; at least 2 for copies to overlap with computation.
        is_compiled: whether blocks may be compiled. The compiler is then loaded, which takes longer than torch itself.

    Attributes:
        is_recomputed: whether blocks run with gradient checkpointing, see above.
        own_backward: blocks that keep tensors for backward even so.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        streamed: Collection[int],
        *,
        device: torch.device,
        ring_size: int = RING_SIZE,
        is_compiled: bool = False,
    ) -> None:
        self.blocks = list(blocks)
        self.device = device
        self.is_compiled = is_compiled
        self.is_recomputed = False
        self.own_backward: Collection[nn.Module] = ()
        self._order = sorted(streamed)
        self._flat = {index: FlatBlock(self.blocks[index], device) for index in self._order}
        self._ring_size = min(ring_size, len(self._order))
        self._ring: list[_Buffer] = []
        self._previous = 0
        self._stream = SideStream(device)
        self._hooks: list[RemovableHandle] = []
        self._open: saved_tensors_hooks | None = None

    def attach(self) -> None:
        """Move the streamed blocks to the host and hook into the model. Does nothing if no block is streamed."""
        for flat in self._flat.values():
            flat.pack()
        largest = max((flat.num_bytes for flat in self._flat.values()), default=0)
        for _ in range(self._ring_size):
            self._ring.append(_Buffer(torch.empty(largest, dtype=torch.uint8, device=self.device)))
        if self._order:
            uncompiled: Callable[[Any], Any] = torch.compiler.disable if self.is_compiled else lambda hook: hook
            end = uncompiled(self._end)
            for index, block in enumerate(self.blocks):
                self._hooks.append(block.register_forward_pre_hook(uncompiled(partial(self._begin, index))))
                self._hooks.append(block.register_forward_hook(end, always_call=True))

    def detach(self) -> None:
        """Remove the hooks and free the ring; the streamed blocks stay on the host."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._stream.finish()
        for index, flat in self._flat.items():
            if self._buffer_of(index) is not None:
                flat.to_host()
        self._ring.clear()

    def describe(self) -> str:
        """One line: how much is streamed."""
        if not self._order:
            return "layer offloading: every block stays on the device"
        streamed = sum(flat.num_bytes for flat in self._flat.values())
        ring = sum(buffer.data.numel() for buffer in self._ring)
        return (
            f"layer offloading: {len(self._order)} of {len(self.blocks)} blocks, {as_size(streamed)}, are kept in "
            f"RAM and stream through {as_size(ring)} on the device"
        )

    # Hooks

    def _begin(self, index: int, module: nn.Module, arguments: Any) -> None:
        # Block 0 ends a backward pass and begins a forward pass; either way, a forward pass comes next.
        down = torch.is_grad_enabled() and 0 < index <= self._previous
        buffer = self._enter(index, down=down)
        keeps = not self.is_recomputed or module in self.own_backward
        if buffer is not None and torch.is_grad_enabled() and keeps:
            self._open = saved_tensors_hooks(partial(self._pack, index), self._unpack)
            self._open.__enter__()

    def _end(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if self._open is not None:
            self._open.__exit__()
            self._open = None

    # The ring

    def _enter(self, index: int, *, down: bool) -> _Buffer | None:
        """Fill the ring, and give a block its weights. Returns its buffer; None for a block that is not streamed."""
        wanted = self._ahead(index, down=down)
        for block in wanted:
            if self._buffer_of(block) is None:
                self._fetch(block, next(buffer for buffer in self._ring if buffer.block not in wanted))
        self._previous = index
        current = self._buffer_of(index)
        if current is not None:
            self._stream.wait(current.copied)
            self._flat[index].expose(current.data)
        return current

    def _ahead(self, index: int, *, down: bool) -> list[int]:
        """The streamed blocks that are used next, including this one, as many as fit in the ring."""
        if down:
            ahead = [block for block in reversed(self._order) if block <= index]
        else:
            ahead = [block for block in self._order if block >= index]
            if not torch.is_grad_enabled():  # no backward: the first block follows the last
                ahead += [block for block in self._order if block < index]
        return ahead[: self._ring_size]

    def _fetch(self, block: int, buffer: _Buffer) -> None:
        if buffer.block is not None:
            self._flat[buffer.block].to_host()
        flat = self._flat[block]
        assert flat.host is not None
        buffer.block = block
        buffer.copied = self._stream.copy(buffer.data[: flat.num_bytes], flat.host)

    def _buffer_of(self, block: int) -> _Buffer | None:
        return next((buffer for buffer in self._ring if buffer.block == block), None)

    # What autograd saves for a block that is not recomputed

    def _pack(self, block: int, tensor: Tensor) -> Any:
        if is_traceable_wrapper_subclass(tensor):
            names, context = tensor.__tensor_flatten__()
            parts = {name: self._pack(block, getattr(tensor, name)) for name in names}
            if any(isinstance(part, _Handle | _WrapperHandle) for part in parts.values()):
                return _WrapperHandle(type(tensor), parts, context, tensor.shape, tensor.stride())
            return tensor
        buffer = self._buffer_of(block)
        assert buffer is not None, "the block is running"
        if tensor.untyped_storage().data_ptr() != buffer.data.untyped_storage().data_ptr():
            return tensor
        return _Handle(block, tensor.dtype, tensor.shape, tensor.stride(), int(tensor.storage_offset()))

    def _unpack(self, kept: Any) -> Tensor:
        if isinstance(kept, _WrapperHandle):
            parts = {name: self._unpack(part) for name, part in kept.parts.items()}
            return kept.kind.__tensor_unflatten__(parts, kept.context, kept.shape, kept.stride)
        if not isinstance(kept, _Handle):
            return kept
        buffer = self._buffer_of(kept.block) if kept.block == self._previous else None
        buffer = buffer or self._enter(kept.block, down=True)
        assert buffer is not None
        return buffer.data.view(kept.dtype).as_strided(kept.shape, kept.stride, kept.offset)
