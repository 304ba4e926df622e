"""Gradient checkpointing that keeps the blocks' inputs on the host until backward."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from toolkit.memory.host import host_twin
from toolkit.memory.recompute import checkpointed
from toolkit.memory.side_stream import SideStream

FETCHED_AHEAD = 2  # a block of two streams has two inputs
SMALLEST_BYTES = 1 << 20


class _Kept:
    """An input of a block, kept on the host and copied back to the device shortly before backward needs it."""

    def __init__(self, tensor: Tensor, stream: SideStream) -> None:
        self.stream = stream
        self.device = tensor.device
        self.host = host_twin(tensor)
        self.copied = stream.copy(self.host, tensor)
        self.fetched: Tensor | None = None

    def fetch(self) -> None:
        """Queue the copy to the device, once. It runs after the copy to the host, which is on the same stream."""
        if self.fetched is None:
            self.fetched = torch.empty_like(self.host, device=self.device)
            self.copied = self.stream.copy(self.fetched, self.host)

    def get(self) -> Tensor:
        """The input, on the device."""
        self.fetch()
        assert self.fetched is not None
        self.stream.wait(self.copied)
        return self.fetched


class ActivationOffload:
    """Like `checkpointed`, but keeps the inputs that grow with the picture on the host.

    The copy to the host overlaps with the next block, the copy back with the backward pass of the block after this one.
    Values are copied unchanged, so gradients are the same bit for bit. Only inputs that have a gradient are offloaded;
    the others, such as positions, are shared by all blocks.

    Args:
        smallest_bytes: inputs smaller than this stay on the device.
    """

    def __init__(self, *, smallest_bytes: int = SMALLEST_BYTES) -> None:
        self.smallest_bytes = smallest_bytes
        self._streams: dict[torch.device, SideStream] = {}
        self._kept: list[weakref.ref[_Kept]] = []

    def __call__(self, block: nn.Module, *arguments: Any) -> Any:
        """Run a block."""
        addresses = {argument.data_ptr() for argument in arguments if self._is_worth_it(argument)}

        def pack(tensor: Tensor) -> Any:
            return self._keep(tensor) if tensor.data_ptr() in addresses else tensor

        # checkpoint uses its own hooks inside the block, so these hooks see only the inputs.
        with saved_tensors_hooks(pack, self._get):
            return checkpointed(block, *arguments)

    def _is_worth_it(self, argument: Any) -> bool:
        return isinstance(argument, Tensor) and argument.requires_grad and argument.nbytes >= self.smallest_bytes

    def _keep(self, tensor: Tensor) -> _Kept:
        if tensor.device not in self._streams:
            self._streams[tensor.device] = SideStream(tensor.device)
        kept = _Kept(tensor, self._streams[tensor.device])
        self._kept.append(weakref.ref(kept))
        return kept

    def _get(self, kept: Any) -> Tensor:
        if not isinstance(kept, _Kept):
            return kept
        while self._kept and self._kept.pop()() is not kept:
            pass  # entries above this one were dropped without a backward pass
        for earlier in self._kept[-FETCHED_AHEAD:]:
            other = earlier()
            if other is not None:
                other.fetch()
        return kept.get()
