"""Decides which of a model's tensors go to the device and which stay on the host, before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from toolkit.memory.flat_block import count_frozen
from toolkit.memory.layer_offload import LayerOffload, choose_streamed

_HOST = torch.device("cpu")


@dataclass(frozen=True)
class Placement:
    """The blocks of a model, and which of them stream from the host.

    Attributes:
        blocks: dotted names of the blocks in the order of the forward pass.
        streamed: indices into `blocks` of the blocks to stream.
        device: the device for everything else.
    """

    blocks: tuple[str, ...]
    streamed: tuple[int, ...]
    device: torch.device

    def device_of(self, name: str) -> torch.device:
        """The device to load a tensor of the model to; `name` is, say, `layers.3.mlp.up_proj.weight`."""
        on_host = name.startswith(tuple(f"{self.blocks[index]}." for index in self.streamed))
        return _HOST if on_host else self.device

    def offload(self, model: nn.Module) -> LayerOffload:
        """Start streaming the blocks of the loaded model; what is added to it later stays on the device."""
        blocks = [model.get_submodule(name) for name in self.blocks]
        offload = LayerOffload(blocks, self.streamed, device=self.device)
        offload.attach()
        return offload


def choose_placement(model: nn.Module, blocks: Sequence[str], *, share: float, device: torch.device) -> Placement:
    """A placement that streams about `share` (0..1) of the blocks' weights; the model may be on the meta device."""
    sizes = [count_frozen(model.get_submodule(name)) for name in blocks]
    return Placement(tuple(blocks), tuple(choose_streamed(sizes, share)), device)


def block_names(model: nn.Module) -> list[str]:
    """Names of the members of the model's top-level module lists, in the order of their creation."""
    return [
        f"{name}.{index}"
        for name, layers in model.named_children()
        if isinstance(layers, nn.ModuleList)
        for index in range(len(layers))
    ]
