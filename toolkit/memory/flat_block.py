"""The frozen tensors of one block of a model, packed into one flat buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from toolkit.memory.host import host_buffer

ALIGNMENT = 256  # bytes; kernels load up to 16 at once, and CUDA itself aligns allocations like this


@dataclass(frozen=True)
class Piece:
    """Where one tensor lies in the buffer.

    Attributes:
        tensor: what the module holds; its data is moved, the object stays.
        offset: of its first byte.
        num_bytes: its size.
    """

    tensor: Tensor
    offset: int
    num_bytes: int


class FlatBlock:
    """A block whose frozen parameters and buffers live in one host buffer, and for a while in a device buffer.

    Tensors of any number format may stand beside each other. A tensor that is made of others, as quantization libraries
    have them, is taken apart by torch's own protocol for that. What is trained is left where it is.
    """

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.block = block
        self.device = device
        self.num_bytes = 0
        self.host: Tensor | None = None
        self._pieces: list[Piece] = []

    def pack(self) -> None:
        """Move the tensors into the host buffer; their old memory is free."""
        for tensor in _frozen_tensors(self.block, self.device):
            self._pieces.append(Piece(tensor, self.num_bytes, tensor.nbytes))
            self.num_bytes += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self.host = host_buffer(self.num_bytes, self.device)
        for piece in self._pieces:
            _view(self.host, piece).copy_(piece.tensor)
        self.to_host()

    def to_host(self) -> None:
        """Let the module's tensors be those on the host: they can be read there, but not computed with."""
        assert self.host is not None, "packed before"
        self.expose(self.host)

    def expose(self, buffer: Tensor) -> None:
        """Let the module's tensors be views of a buffer that holds, or will hold, what the host buffer holds."""
        for piece in self._pieces:
            piece.tensor.data = _view(buffer, piece)


def count_frozen(block: nn.Module) -> int:
    """How many frozen numbers a module holds; it may be on the meta device."""
    return sum(tensor.numel() for _, _, tensor in _named_tensors(block))


def _view(buffer: Tensor, piece: Piece) -> Tensor:
    part = buffer[piece.offset : piece.offset + piece.num_bytes]
    return part.view(piece.tensor.dtype).view(piece.tensor.shape)


def _frozen_tensors(block: nn.Module, device: torch.device) -> Iterator[Tensor]:
    """The plain tensors that hold the block's frozen weights, each once."""
    seen: set[int] = set()
    for module, name, tensor in _named_tensors(block):
        if is_traceable_wrapper_subclass(tensor) and tensor.device.type != device.type:
            # Such a tensor names its device itself: it must be the one where its parts are when it is used.
            tensor = module._parameters[name] = nn.Parameter(tensor.to(device), requires_grad=False)
        for inner in _inner_tensors(tensor):
            if inner.numel() and id(inner) not in seen:
                seen.add(id(inner))
                yield inner


def _named_tensors(block: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in block.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and not tensor.requires_grad:
                yield module, name, tensor


def _inner_tensors(tensor: Tensor) -> Iterator[Tensor]:
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _inner_tensors(getattr(tensor, name))
