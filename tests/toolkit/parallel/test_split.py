"""Which blocks stand on which card."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from toolkit.parallel.split import split_blocks


def _fullest(blocks: Sequence[int], counts: Sequence[int], rooms: Sequence[int], bases: Sequence[int]) -> float:
    ends = list(itertools.accumulate(counts))
    starts = [0, *ends[:-1]]
    return max(
        (base + sum(blocks[start:end])) / room
        for start, end, room, base in zip(starts, ends, rooms, bases, strict=True)
    )


@pytest.mark.parametrize(
    ("blocks", "rooms", "bases", "counts"),
    [
        ([1] * 6, [10, 10], [0, 0], (3, 3)),
        ([1] * 6, [10, 10], [2, 0], (2, 4)),  # embedders and last layer on the first
        ([1] * 6, [20, 10], [0, 0], (4, 2)),  # a larger first card
        ([1] * 7, [10, 10], [0, 0], (4, 3)),  # of equals, more on the first
        ([3, 1, 1, 1], [10, 10], [0, 0], (1, 3)),
        ([1, 1], [10, 10, 10], [0, 0, 0], (1, 1, 0)),
        ([1] * 4, [10, 10], [9, 0], (0, 4)),  # the first card has no room
    ],
)
def test_the_fullest_card_is_as_empty_as_possible(
    blocks: list[int], rooms: list[int], bases: list[int], counts: tuple[int, ...]
) -> None:
    assert split_blocks(blocks, rooms, bases=bases) == counts


def test_no_other_split_is_better() -> None:
    drawn = random.Random(1)
    for _ in range(50):
        blocks = [drawn.randint(1, 9) for _ in range(drawn.randint(1, 7))]
        cards = drawn.randint(1, 3)
        rooms, bases = [drawn.randint(10, 30) for _ in range(cards)], [drawn.randint(0, 9) for _ in range(cards)]
        counts = split_blocks(blocks, rooms, bases=bases)
        assert sum(counts) == len(blocks)
        ways = (way for way in itertools.product(range(len(blocks) + 1), repeat=cards) if sum(way) == len(blocks))
        best = min(_fullest(blocks, way, rooms, bases) for way in ways)
        assert _fullest(blocks, counts, rooms, bases) == pytest.approx(best)
