"""Attention that keeps its output and what its kernel needs besides, but not its inputs, which backward makes again.

Whatever kernel is chosen does its own backward pass. What it saves goes to the caller, except for queries, keys and
values: in their place it saves where they were, and finds there what the caller has made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, _engine_run_backward, get_gradient_edge, saved_tensors_hooks

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

_ANCHOR = torch.zeros((), requires_grad=True)  # never gets a gradient: it only makes autograd record


@dataclass(frozen=True)
class _Input:
    """A view of an input: which of the three, and its shape and layout."""

    index: int
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _Slot:
    """The place of a tensor that the kernel has saved among what the caller keeps."""

    index: int


@dataclass
class _Given:
    """What the graph of a kernel finds during its backward pass. It knows nothing of the graph, which can so be freed.

    Attributes:
        saved: what the kernel has saved.
        inputs: the three inputs, made again.
    """

    saved: Sequence[Tensor] = ()
    inputs: Sequence[Tensor] = ()

    def unpack(self, place: _Input | _Slot) -> Tensor:
        """The tensor that is meant by a place."""
        if isinstance(place, _Slot):
            return self.saved[place.index]
        return self.inputs[place.index].as_strided(place.shape, place.stride, place.offset)


class KeptAttention:
    """One run of an attention kernel, until its backward pass."""

    def __init__(self) -> None:
        self._given = _Given()
        self._edges: Sequence[GradientEdge] = ()
        self._graph: GradientEdge | None = None

    @classmethod
    def run(cls, inputs: Sequence[Tensor], attend: Attend) -> tuple[KeptAttention, Tensor, list[Tensor]]:
        """Run a kernel on queries, keys and values, each [B, n, heads, head size].

        Returns:
            The run, the kernel's output, [B, n, heads, head size], and what else has to be given to `backward`.
        """
        kept, saved = cls(), []
        places = {tensor.untyped_storage()._cdata: index for index, tensor in enumerate(inputs)}

        def pack(tensor: Tensor) -> _Input | _Slot:
            index = places.get(tensor.untyped_storage()._cdata)
            if index is not None:
                return _Input(index, tensor.shape, tensor.stride(), int(tensor.storage_offset()))
            saved.append(tensor)
            return _Slot(len(saved) - 1)

        with torch.enable_grad(), saved_tensors_hooks(pack, kept._given.unpack):
            connected = _Entry.apply(_ANCHOR, *inputs)
            kept._edges = [get_gradient_edge(tensor) for tensor in connected]
            output = attend(*connected)
        kept._graph = get_gradient_edge(output)
        given = list(saved)
        saved.clear()  # autograd holds `pack` for as long as the graph, and with it this list
        return kept, output.detach(), given

    def backward(self, gradient: Tensor, inputs: Sequence[Tensor], saved: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gradients of the inputs.

        Args:
            gradient: gradient of the output.
            inputs: the inputs, made again in the same layout.
            saved: what `run` returned to be kept.
        """
        assert self._graph is not None
        self._given.saved, self._given.inputs = saved, inputs
        try:
            # As `torch.autograd.grad`, which first compares the sizes of output and gradient: in symbols, for which it
            # loads sympy, half a second of each start.
            found: Sequence[Tensor] = _engine_run_backward(
                (self._graph,), (gradient,), True, False, tuple(self._edges), False, accumulate_grad=False
            )
            return found
        finally:
            self._given.saved, self._given.inputs = (), ()


class _Entry(torch.autograd.Function):
    """Gives tensors a place in a graph that does not hold them."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *gradients
