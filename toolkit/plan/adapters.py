"""How large the adapters of a job are; readable without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from toolkit.cards import ModelCard
from toolkit.config import AdapterConfig
from toolkit.encode.vision import EncoderFacts, VisionEncoder, encoder_of


def count_weights(
    configs: Iterable[AdapterConfig], card: ModelCard, encoders: Mapping[VisionEncoder, EncoderFacts]
) -> int:
    """Number of weights of all adapters, but for those whose vision encoder is not on this machine yet.

    Args:
        configs: the job's adapters.
        card: card of the run's model.
        encoders: the vision encoders that are on this machine.
    """
    if card.size is None:
        return 0
    total = 0
    for config in configs:
        if config.choice.reads != "view":
            total += config.choice.count(config, card, None)
        elif (facts := encoders.get(encoder_of(config))) is not None:
            total += config.choice.count(config, card, facts.shape)
    return total


def count_in_blocks(
    configs: Iterable[AdapterConfig], card: ModelCard, encoders: Mapping[VisionEncoder, EncoderFacts]
) -> tuple[int, ...]:
    """How many of the weights that `count_weights` counts belong to blocks, for each kind of block in forward order."""
    if card.size is None:
        return ()
    blocks = card.size.transformer.blocks
    found = [0 for _ in blocks]
    for config in configs:
        facts = encoders.get(encoder_of(config)) if config.choice.reads == "view" else None
        if facts is None or config.choice.count_in_block is None:
            continue
        per_block = config.choice.count_in_block(config, card, facts.shape)
        for index, block in enumerate(blocks[: 1 if config.blocks == "double" else None]):
            found[index] += block.count * per_block
    return tuple(found)
