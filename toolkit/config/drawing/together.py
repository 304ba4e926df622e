"""Which pictures may be drawn in one batch: those that differ in prompt and seed only."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.cards import ModelCard
from toolkit.config.sample import SampleItem
from toolkit.config.training_process import TrainingProcessConfig


def in_groups(items: Sequence[SampleItem], card: ModelCard, *, most: int) -> list[list[int]]:
    """The positions of the items, in groups to be drawn together, in the order of their first items.

    Args:
        items: what to draw.
        card: the card of the model.
        most: the largest size of a group, from 1.
    """
    groups: list[list[int]] = []
    open_groups: dict[tuple[object, ...], list[int]] = {}
    for index, item in enumerate(items):
        shape = _shape_of(item, card)
        group = None if shape is None else open_groups.get(shape)
        if group is None or len(group) >= most:
            group = []
            groups.append(group)
            if shape is not None:
                open_groups[shape] = group
        group.append(index)
    return groups


def most_together(config: TrainingProcessConfig) -> int:
    """The number of samples in the largest group of a round, whatever memory it takes."""
    card, samples = config.card, (config.sample, config.first_sample)
    if card is None or config.adapter:
        return 1
    rounds = [sample.items() for sample in samples if sample is not None]
    return max(len(group) for items in rounds for group in (in_groups(items, card, most=len(items)) or [[0]]))


def _shape_of(item: SampleItem, card: ModelCard) -> tuple[object, ...] | None:
    """What items of one batch have in common; None for an item with images, which is drawn alone."""
    if item.references or item.views or item.controls:
        return None
    has_negative = item.negative_prompt(card) is not None
    return (item.width, item.height, item.sample_steps, item.guidance_scale, item.network_multiplier, has_negative)
