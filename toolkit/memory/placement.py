"""Which of a model's tensors go to the device and which stay on the host, decided before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from toolkit.memory.flat_block import count_frozen
from toolkit.memory.layer_offload import RING_SIZE, LayerOffload, choose_streamed

# For what is computed beside the weights of a text encoder, in its passes over single texts.
TEXT_WORK_BYTES = 1_000_000_000
_HOST = torch.device("cpu")


@dataclass(frozen=True)
class Placement:
    """The blocks of a model, and which of them stream from the host.

    Attributes:
        blocks: dotted names in the order of the forward pass.
        streamed: indices into `blocks`.
        device: where everything else goes.
    """

    blocks: tuple[str, ...]
    streamed: tuple[int, ...]
    device: torch.device

    def device_of(self, name: str) -> torch.device:
        """Where to load a tensor of the model, such as `layers.3.mlp.up_proj.weight`."""
        on_host = name.startswith(tuple(f"{self.blocks[index]}." for index in self.streamed))
        return _HOST if on_host else self.device

    def offload(self, model: nn.Module) -> LayerOffload:
        """Stream the blocks of the model, which has been loaded; what is added to it later stays on the device."""
        blocks = [model.get_submodule(name) for name in self.blocks]
        offload = LayerOffload(blocks, self.streamed, device=self.device)
        offload.attach()
        return offload


def choose_placement(model: nn.Module, blocks: Sequence[str], *, share: float, device: torch.device) -> Placement:
    """Stream about `share` (0..1) of the blocks' weights; the model may be on the meta device."""
    sizes = [count_frozen(model.get_submodule(name)) for name in blocks]
    return Placement(tuple(blocks), tuple(choose_streamed(sizes, share)), device)


def block_names(model: nn.Module) -> list[str]:
    """The members of the lists of layers that stand in the model itself, in the order in which they were made."""
    return [
        f"{name}.{index}"
        for name, layers in model.named_children()
        if isinstance(layers, nn.ModuleList)
        for index in range(len(layers))
    ]


def share_for_free_memory(
    model: nn.Module, blocks: Sequence[str], *, bits_per_weight: float, device: torch.device
) -> float:
    """Share of a text encoder's blocks to stream so that it fits what the card has free now; 0 without a card.

    Args:
        model: on the meta device.
        blocks: dotted names of its blocks.
        bits_per_weight: of the blocks; the rest, which is embeddings, is taken to be in 16 bits.
        device: where it computes.
    """
    if device.type != "cuda":
        return 0.0
    free, _ = torch.cuda.mem_get_info(device)
    counts = [count_frozen(model.get_submodule(name)) for name in blocks]
    rest = 2 * (count_frozen(model) - sum(counts)) + TEXT_WORK_BYTES
    return share_that_fits([int(count * bits_per_weight / 8) for count in counts], rest=rest, free=free)


def share_that_fits(sizes: Sequence[int], *, rest: int, free: int) -> float:
    """The smallest share of the blocks to stream so that the model fits.

    Args:
        sizes: bytes of each block.
        rest: bytes of everything that is needed beside the blocks.
        free: bytes of the device that may be used.

    Returns:
        0..1; 1 also where even that is not enough.
    """
    total = sum(sizes)
    if total + rest <= free:
        return 0.0
    # The choice of blocks is right to half a block, and the ring comes on top.
    spare = free - rest - (RING_SIZE + 0.5) * max(sizes)
    return min(1.0, max(0.0, 1 - spare / total))
