"""How frozen weights lie in a file: a block's tensors side by side as they stream, so that one map or read gets all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from toolkit.memory.host import host_buffer
from toolkit.weights.tensor_index import Entry, TensorIndex, map_bytes

ALIGNMENT = 256  # bytes; kernels load up to 16 at once, and CUDA aligns its own allocations to this
_PADDING = "padding after "  # the format allows no gaps, so what fills them has names too


@dataclass(frozen=True)
class Stretch:
    """A block's tensors in a file, or those outside of all blocks.

    Attributes:
        entries: the tensors by name, in the order in which they lie.
        offset: position of the first byte in the file.
        num_bytes: size with all padding, a multiple of `ALIGNMENT`.
    """

    entries: Mapping[str, Entry]
    offset: int
    num_bytes: int

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The tensors by name, as views of a buffer [num_bytes], uint8, with the bytes of the stretch."""
        return {
            name: view_bytes(buffer, entry.offset - self.offset, entry.num_bytes, entry.torch_dtype, entry.shape)
            for name, entry in self.entries.items()
        }

    def load(self, device: torch.device, *, used_on: torch.device) -> Tensor:
        """The bytes, [num_bytes], uint8: on the CPU a map of the file, elsewhere one copy.

        Args:
            device: where to keep them.
            used_on: the device that they are used on. If it is a card, and they are kept on the CPU, they are read once
                into memory that the card can read.
        """
        path = next(iter(self.entries.values())).path
        if device.type == "cpu" and used_on.type == "cuda":
            buffer = host_buffer(self.num_bytes, used_on)
            with path.open("rb") as file:
                file.seek(self.offset)
                if file.readinto(buffer.numpy().data) != self.num_bytes:
                    raise EOFError(f"{path} has become shorter")
            return buffer
        return map_bytes(path, self.offset, self.num_bytes).to(device)


def laid_out(tensors: Mapping[str, Tensor], blocks: Sequence[str]) -> dict[str, Tensor]:
    """Tensors in the order in which they shall lie in a file, with padding: each begins at a multiple of `ALIGNMENT`.

    Args:
        tensors: a module's tensors by name. Those of a block keep their order.
        blocks: names of its blocks in the order of the forward pass. What is outside of them comes first.
    """
    groups: dict[str | None, list[str]] = {None: [], **{block: [] for block in blocks}}
    for name in tensors:
        groups[_block_of(name, groups)].append(name)
    result: dict[str, Tensor] = {}
    for name in (name for group in groups.values() for name in group):
        result[name] = tensors[name]
        if (lacking := -tensors[name].nbytes % ALIGNMENT) > 0:
            result[f"{_PADDING}{name}"] = torch.zeros(lacking, dtype=torch.uint8)
    return result


def stretches(index: TensorIndex, blocks: Collection[str]) -> list[Stretch] | None:
    """The stretches of a file in which tensors lie as `laid_out` orders them; None if they do not."""
    entries, names = index.entries.values(), set(blocks)
    end = max((entry.offset + entry.num_bytes for entry in entries), default=0)
    groups: dict[str | None, dict[str, Entry]] = {}
    last: str | None = None
    for name, entry in without_padding(index).entries.items():
        block = _block_of(name, names)
        if entry.offset % ALIGNMENT or (block in groups and block != last):
            return None
        groups.setdefault(block, {})[name] = entry
        last = block
    begins = [next(iter(group.values())).offset for group in groups.values()]
    if end % ALIGNMENT:
        return None
    return [
        Stretch(group, begin, after - begin)
        for group, begin, after in zip(groups.values(), begins, [*begins[1:], end], strict=True)
    ]


def without_padding(index: TensorIndex) -> TensorIndex:
    """The tensors of a file without what fills the gaps between them."""
    return TensorIndex({name: entry for name, entry in index.entries.items() if not name.startswith(_PADDING)})


def view_bytes(buffer: Tensor, offset: int, num_bytes: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The tensor of which these bytes of a buffer, [N] in uint8, are the content."""
    return buffer[offset : offset + num_bytes].view(dtype).view(shape)


def _block_of(name: str, blocks: Collection[str | None]) -> str | None:
    """The block that a tensor belongs to; None if it is outside of all."""
    parts = name.split(".")
    return next((prefix for prefix in accumulate(parts, "{}.{}".format) if prefix in blocks), None)
