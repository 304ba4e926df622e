"""Decides which device each of a model's tensors goes to, before any of them is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from toolkit.memory.card_split import CardSplit
from toolkit.memory.flat_block import count_frozen
from toolkit.memory.layer_offload import LayerOffload, choose_streamed
from toolkit.parallel.split import split_blocks

_HOST = torch.device("cpu")


@dataclass(frozen=True)
class Split:
    """The cards that a model's blocks are split over.

    Attributes:
        cards: the cards; the first also has everything outside the blocks.
        counts: the number of blocks on each, from the memory plan; None, without a plan: by the weights of the blocks.
    """

    cards: tuple[torch.device, ...]
    counts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Planned:
    """What the memory plan says about where components are kept.

    Attributes:
        shares: component -> share of its blocks to stream, 0 to 1, for shares that the job leaves to the plan; None if
            there is no plan: such components are then streamed completely.
        split: the cards to split the transformer's blocks over, from its device on; None for no split.
    """

    shares: Mapping[str, float] | None = None
    split: Split | None = None


@dataclass(frozen=True)
class Placement:
    """The blocks of a model, which of them stream from the host, and which are on other cards.

    Attributes:
        blocks: dotted names of the blocks in the order of the forward pass.
        streamed: indices into `blocks` of the blocks to stream.
        device: the device for everything else.
        cards: the card of each block; empty if the model is on one device.
    """

    blocks: tuple[str, ...]
    streamed: tuple[int, ...]
    device: torch.device
    cards: tuple[torch.device, ...] = ()

    def device_of(self, name: str) -> torch.device:
        """The device to load a tensor of the model to; `name` is, say, `layers.3.mlp.up_proj.weight`."""
        index = next((index for index, block in enumerate(self.blocks) if name.startswith(f"{block}.")), None)
        if index is None:
            return self.device
        if index in self.streamed:
            return _HOST
        return self.cards[index] if self.cards else self.device

    def offload(self, model: nn.Module, *, is_compiled: bool = False) -> LayerOffload:
        """Start streaming the blocks of the loaded model; what is added to it later stays on the device.

        Args:
            model: the loaded model.
            is_compiled: whether its blocks may be compiled.
        """
        blocks = [model.get_submodule(name) for name in self.blocks]
        offload = LayerOffload(blocks, self.streamed, device=self.device, is_compiled=is_compiled)
        offload.attach()
        return offload

    def split(self, model: nn.Module) -> CardSplit:
        """Let the loaded model run on its cards."""
        split = CardSplit([model.get_submodule(name) for name in self.blocks], self.cards, home=self.device)
        split.attach()
        return split


def choose_placement(model: nn.Module, blocks: Sequence[str], *, share: float, device: torch.device) -> Placement:
    """A placement that streams about `share` (0..1) of the blocks' weights; the model may be on the meta device."""
    sizes = [count_frozen(model.get_submodule(name)) for name in blocks]
    return Placement(tuple(blocks), tuple(choose_streamed(sizes, share)), device)


def split_over(
    model: nn.Module,
    blocks: Sequence[str],
    *,
    split: Split,
    rooms: Sequence[int] | None = None,
) -> Placement:
    """A placement on several cards.

    Args:
        model: the model; may be on the meta device.
        blocks: dotted names of its blocks in the order of the forward pass.
        split: the cards; numbers of blocks that do not fit the model are not used.
        rooms: memory of each card; None if they are equal.
    """
    cards, counts = split.cards, split.counts
    if counts is None or sum(counts) != len(blocks):
        sizes = [sum(weight.numel() for weight in model.get_submodule(name).parameters()) for name in blocks]
        outside = sum(weight.numel() for weight in model.parameters()) - sum(sizes)
        bases = [outside, *(0 for _ in cards[1:])]
        counts = split_blocks(sizes, rooms or [1 for _ in cards], bases=bases)
    placed = [card for card, count in zip(cards, counts, strict=True) for _ in range(count)]
    return Placement(tuple(blocks), (), cards[0], cards=tuple(placed))


def block_names(model: nn.Module) -> list[str]:
    """Names of the members of the model's top-level module lists, in the order of their creation."""
    return [
        f"{name}.{index}"
        for name, layers in model.named_children()
        if isinstance(layers, nn.ModuleList)
        for index in range(len(layers))
    ]
