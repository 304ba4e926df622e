"""Finds a layer's rows in the tensors of a model's files, which may name and fuse layers differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from toolkit.lora.update import LayerLocation, Location


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` (exclusive) of one tensor of a file."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Span:
    start: int
    stop: int
    key: str
    offset: int


class RowMap:
    """Finds the rows of layers in the tensors of a file.

    Args:
        layers: location and number of rows of each tensor, by key.
    """

    def __init__(self, layers: Mapping[str, tuple[Location, int]]) -> None:
        self._spans: dict[str, list[_Span]] = defaultdict(list)
        self._heights: dict[str, int] = {}
        for key, (where, rows) in layers.items():
            offset = 0
            for target, height, start, stop in _parts(where, rows):
                self._heights[target] = height
                self._spans[target].append(_Span(start, stop, key, offset))
                offset += stop - start

    def find(self, where: Location) -> list[Rows]:
        """The rows of a layer, in the layer's own order; empty unless all of them are there."""
        found: list[Rows] = []
        for target, start, stop in _shares(where):
            if target not in self._heights:
                return []
            row, end = int(start * self._heights[target]), int(stop * self._heights[target])
            for span in sorted(self._spans[target], key=lambda span: span.start):
                if span.start <= row < min(span.stop, end):
                    until, shift = min(span.stop, end), span.offset - span.start
                    found.append(Rows(span.key, row + shift, until + shift))
                    row = until
            if row < end:
                return []
        return found


def _shares(where: Location) -> list[tuple[str, Fraction, Fraction]]:
    """Each target of a layer with the range of its rows, as fractions, in the order of the layer's own rows."""
    if not isinstance(where, LayerLocation):
        return [(target, Fraction(0), Fraction(1)) for target in where.targets]
    half = Fraction(1, 2)
    if where.is_swapped:
        return [(where.target, half, Fraction(1)), (where.target, Fraction(0), half)]
    return [(where.target, Fraction(where.part, where.num_parts), Fraction(where.part + 1, where.num_parts))]


def _parts(where: Location, rows: int) -> list[tuple[str, int, int, int]]:
    """(target, its number of rows, start, stop) of each part of a tensor of `rows` rows, in the tensor's order."""
    if isinstance(where, LayerLocation):
        height = rows * where.num_parts
        return [(target, height, int(start * height), int(stop * height)) for target, start, stop in _shares(where)]
    unit = rows // sum(where.heights)
    return [(t, unit * height, 0, unit * height) for t, height in zip(where.targets, where.heights, strict=True)]
