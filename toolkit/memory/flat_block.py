"""The frozen tensors of one block of a model, packed into one flat buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from toolkit.memory.host import host_buffer
from toolkit.quantize.block_layout import ALIGNMENT, view_bytes


@dataclass(frozen=True)
class Piece:
    """The location of one tensor in the buffer.

    Attributes:
        tensor: the module's tensor object; its data is moved, but the object stays the same.
        offset: position of the tensor's first byte in the buffer.
        num_bytes: size of the tensor in bytes.
    """

    tensor: Tensor
    offset: int
    num_bytes: int


class FlatBlock:
    """A block whose frozen parameters and buffers live in one host buffer and, while in use, in a device buffer.

    Tensors of different number formats can share the buffer. Tensors composed of other tensors, as in quantization
    libraries, are taken apart with torch's own protocol for this. Trained parameters are not moved.
    """

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.block = block
        self.device = device
        self.num_bytes = 0
        self.host: Tensor | None = None
        self._pieces: list[Piece] = []

    def pack(self) -> None:
        """Move the tensors into the host buffer and free their old memory, unless they lie in such a buffer already."""
        for tensor in _frozen_tensors(self.block, self.device):
            self._pieces.append(Piece(tensor, self.num_bytes, tensor.nbytes))
            self.num_bytes += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self.host = self._as_it_lies()
        if self.host is None:
            self.host = host_buffer(self.num_bytes, self.device)
            for piece in self._pieces:
                _view(self.host, piece).copy_(piece.tensor)
        self.to_host()

    def to_host(self) -> None:
        """Point the module's tensors at the host buffer, where they can be read but not used in computations."""
        assert self.host is not None, "pack() has been called"
        self.expose(self.host)

    def expose(self, buffer: Tensor) -> None:
        """Point the module's tensors at a buffer that has, or will have, the content of the host buffer."""
        for piece in self._pieces:
            piece.tensor.data = _view(buffer, piece)

    def _as_it_lies(self) -> Tensor | None:
        """The buffer that the block was read into from a file with the same layout; None if it was not."""
        if not self._pieces:
            return None
        storage = self._pieces[0].tensor.untyped_storage()
        is_here = storage.device.type == "cpu" and storage.nbytes() == self.num_bytes
        if not is_here or not all(_lies_in(storage, piece) for piece in self._pieces):
            return None
        buffer = torch.empty(0, dtype=torch.uint8).set_(storage)
        return buffer if self.device.type != "cuda" or buffer.is_pinned() else None


def count_frozen(block: nn.Module) -> int:
    """Number of frozen values in a module, which may be on the meta device."""
    return sum(tensor.numel() for _, _, tensor in _named_tensors(block))


def _view(buffer: Tensor, piece: Piece) -> Tensor:
    return view_bytes(buffer, piece.offset, piece.num_bytes, piece.tensor.dtype, piece.tensor.shape)


def _lies_in(storage: torch.UntypedStorage, piece: Piece) -> bool:
    tensor = piece.tensor
    is_of_it = tensor.untyped_storage().data_ptr() == storage.data_ptr() and tensor.is_contiguous()
    return is_of_it and tensor.storage_offset() * tensor.element_size() == piece.offset


def _frozen_tensors(block: nn.Module, device: torch.device) -> Iterator[Tensor]:
    """The plain tensors that store the block's frozen weights, each once."""
    seen: set[int] = set()
    for module, name, tensor in _named_tensors(block):
        if is_traceable_wrapper_subclass(tensor) and tensor.device.type != device.type:
            # A wrapper tensor has a device of its own, which must be the one its parts are on when it is used.
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
