"""Which blocks of a model stand on which card, when one process spreads them over several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate


def split_blocks(blocks: Sequence[int], rooms: Sequence[int], *, bases: Sequence[int]) -> tuple[int, ...]:
    """Spread blocks over cards in forward order, so that the fullest card is as empty as possible.

    How full a card is counts relative to its memory. Of several best ways, earlier cards get more blocks: the last
    layer is on the first card, so that fewer cards mean fewer copies between them.

    Args:
        blocks: bytes of each block, in the order of the forward pass.
        rooms: bytes of memory of each card.
        bases: bytes on each card that do not depend on its blocks.

    Returns:
        The number of blocks of each card; may be 0.
    """
    sums = [0, *accumulate(blocks)]  # sums[i]: bytes of the first i blocks
    num_blocks = len(blocks)

    def fullness(card: int, first: int, last: int) -> float:
        return (bases[card] + sums[last] - sums[first]) / rooms[card]

    # fullest[first]: of the best way to spread the blocks from `first` on over the cards from `card` on.
    fullest = [math.inf] * num_blocks + [-math.inf]
    choices: list[list[int]] = []
    for card in reversed(range(len(rooms))):
        ways = [
            min((max(fullness(card, first, last), fullest[last]), -last) for last in range(first, num_blocks + 1))
            for first in range(num_blocks + 1)
        ]
        fullest = [way[0] for way in ways]
        choices.append([-way[1] for way in ways])
    counts, first = [], 0
    for choice in reversed(choices):
        counts.append(choice[first] - first)
        first = choice[first]
    return tuple(counts)
