"""Which rows of which tensors of a model's files are a layer, whatever the names and the fusing on either side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from toolkit.lora.update import LayerLocation, Location


@dataclass(frozen=True)
class Rows:
    """Some rows of one tensor of a file: from `start` to before `stop`."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Place:
    start: int
    stop: int
    key: str
    offset: int


class RowMap:
    """Finds the rows of layers in the tensors of a file.

    Args:
        layers: of each tensor, where it belongs and how many rows it has.
    """

    def __init__(self, layers: Mapping[str, tuple[Location, int]]) -> None:
        self._places: dict[str, list[_Place]] = defaultdict(list)
        self._heights: dict[str, int] = {}
        for key, (where, rows) in layers.items():
            offset = 0
            for target, height, start, stop in _parts(where, rows):
                self._heights[target] = height
                self._places[target].append(_Place(start, stop, key, offset))
                offset += stop - start

    def find(self, where: Location) -> list[Rows]:
        """The rows of a layer in its own order; none if not all of them are there."""
        found: list[Rows] = []
        for target, start, stop in _shares(where):
            if target not in self._heights:
                return []
            row, end = int(start * self._heights[target]), int(stop * self._heights[target])
            for place in sorted(self._places[target], key=lambda place: place.start):
                if place.start <= row < min(place.stop, end):
                    until, shift = min(place.stop, end), place.offset - place.start
                    found.append(Rows(place.key, row + shift, until + shift))
                    row = until
            if row < end:
                return []
        return found


def _shares(where: Location) -> list[tuple[str, Fraction, Fraction]]:
    """Targets and which share of their rows, in the order of the layer's own rows."""
    if not isinstance(where, LayerLocation):
        return [(target, Fraction(0), Fraction(1)) for target in where.targets]
    half = Fraction(1, 2)
    if where.is_swapped:
        return [(where.target, half, Fraction(1)), (where.target, Fraction(0), half)]
    return [(where.target, Fraction(where.part, where.num_parts), Fraction(where.part + 1, where.num_parts))]


def _parts(where: Location, rows: int) -> list[tuple[str, int, int, int]]:
    """Target, its number of rows, and which of them, in the order of the `rows` of the layer's tensor."""
    if isinstance(where, LayerLocation):
        height = rows * where.num_parts
        return [(target, height, int(start * height), int(stop * height)) for target, start, stop in _shares(where)]
    unit = rows // sum(where.heights)
    return [(t, unit * height, 0, unit * height) for t, height in zip(where.targets, where.heights, strict=True)]
