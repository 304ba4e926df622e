"""The blocks of one model on several cards: what a block is given is moved to its card before it runs.

Everything outside the blocks is on the first card, and the output of the last block returns to it. What one block
returns is on the next block's card except at a seam. What all blocks are given, such as modulation and rotation, is
copied once for each card and pass: a card keeps its copies for as long as its blocks are given the same tensors.

Copies are differentiable, so gradients go the same way back. With gradient checkpointing, arguments are moved before a
block is checkpointed: it keeps inputs on its own card, and nothing is moved again when backward recomputes it.

Dropout draws from the generator of a card. In training, a card continues where the one before it was, so that the model
draws what it draws on one card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Copies = dict[int, tuple[Tensor, Tensor]]
"""Tensors of other cards by id, each with its copy. Both are held, so that no other tensor gets the id."""


class CardSplit:
    """Moves tensors between the cards of a model.

    Args:
        blocks: all blocks of the model, in the order of its forward pass.
        cards: the card of each block.
        home: the card of everything else.
    """

    def __init__(self, blocks: Sequence[nn.Module], cards: Sequence[torch.device], *, home: torch.device) -> None:
        self.home = home
        self._cards = dict(zip(blocks, cards, strict=True))
        self._copies: dict[torch.device, Copies] = {}
        before = [home, *cards]
        self._sources = {
            block: source for block, source, card in zip(blocks, before, cards, strict=False) if source != card
        }
        self._is_checkpointed = False

    def attach(self) -> None:
        """Hook into the blocks, whose weights are already on their cards."""
        for block in self._cards:
            block.register_forward_pre_hook(self._enter, with_kwargs=True)
        block.register_forward_hook(self._leave)

    def before(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """A function like `run`, which checkpoints a block on positional arguments, that moves the arguments first."""
        self._is_checkpointed = True

        def moved(block: nn.Module, *arguments: Any) -> Any:
            self._carry_random_state(block)
            return run(block, *self._moved(self._cards[block], arguments))

        return moved

    def device_of(self, layer: nn.Module) -> torch.device:
        """The card that a layer of the model computes on."""
        return next(
            (card for block, card in self._cards.items() if any(part is layer for part in block.modules())), self.home
        )

    def describe(self) -> str:
        """One line: where the blocks are."""
        counts: dict[torch.device, int] = {}
        for card in self._cards.values():
            counts[card] = counts.get(card, 0) + 1
        spread = ", ".join(f"{count} on {card}" for card, count in counts.items())
        return f"split over cards: {len(self._cards)} blocks, {spread}; everything else on {self.home}"

    def _enter(self, block: nn.Module, arguments: Any, named: Mapping[str, Any]) -> Any:
        if torch.is_grad_enabled() and not self._is_checkpointed:  # a checkpoint restores what it has drawn from
            self._carry_random_state(block)
        return self._moved(self._cards[block], (arguments, dict(named)))

    def _leave(self, block: nn.Module, arguments: Any, output: Any) -> Any:
        self._copies.clear()
        return _each_tensor(output, lambda tensor: tensor.to(self.home))

    def _carry_random_state(self, block: nn.Module) -> None:
        """At the first block of a card, let its generator continue from that of the card before."""
        source, card = self._sources.get(block), self._cards[block]
        if source is not None and block.training:
            module = torch.get_device_module(card)
            module.set_rng_state(module.get_rng_state(source), card)

    def _moved(self, card: torch.device, values: Any) -> Any:
        """The same values, with their tensors on a card."""
        kept, used = self._copies.get(card, {}), Copies()

        def move(tensor: Tensor) -> Tensor:
            if tensor.device == card:
                return tensor
            if id(tensor) not in used:
                used[id(tensor)] = kept.get(id(tensor)) or (tensor, tensor.to(card))
            return used[id(tensor)][1]

        moved = _each_tensor(values, move)
        if used:
            self._copies[card] = used
        return moved


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with each of its tensors changed, also within tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_each_tensor(inner, change) for inner in value)
    if type(value) is dict:
        return {key: _each_tensor(inner, change) for key, inner in value.items()}
    return value
