"""What a job file may name: the models and process types that are installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from toolkit.cards import ModelCard, find_cards
from toolkit.extension import find_processes


@dataclass(frozen=True)
class Known:
    """Validation context of a job file: with it paths and names are checked too.

    Attributes:
        cards: the models by arch.
        processes: the values that `type` may have.
    """

    cards: Mapping[str, ModelCard]
    processes: Collection[str]


def find_known() -> Known:
    """What is installed here."""
    return Known(cards=find_cards(), processes=tuple(find_processes()))
