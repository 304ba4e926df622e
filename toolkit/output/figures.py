"""Curves from the event log: every figure that events hold, by step, thinned to what a screen can show."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_NO_FIGURES = {"time", "kind", "step", "index", "seed", "width", "height", "run", "done", "total", "exit_code", "bytes"}
_CURVES_OF = {"step", "memory", "validation", "scores", "metric", "metrics"}


@dataclass
class Column:
    """One curve: steps that only grow, and a figure for each.

    Attributes:
        steps, values: of equal length.
        num_changes: how often a figure was added; a curve with the same number is the same.
    """

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    num_changes: int = 0

    def add(self, step: float, value: float) -> None:
        """A step that was made before is made again: what followed it was set aside."""
        if self.steps and step <= self.steps[-1]:
            keep = bisect.bisect_left(self.steps, step)
            del self.steps[keep:]
            del self.values[keep:]
        self.steps.append(step)
        self.values.append(value)
        self.num_changes += 1


@dataclass(frozen=True)
class Thinned:
    """A curve for a screen: of each span of steps the last step, and the lowest, mean and highest figure."""

    steps: list[float]
    low: list[float]
    mean: list[float]
    high: list[float]


def thinned(column: Column, *, points: int, first: float | None = None, last: float | None = None) -> Thinned:
    """The part of a curve between two steps, in at most `points` spans of equally many steps.

    Args:
        column: the curve.
        points: the most spans, at least 1.
        first, last: the steps to begin and to end at; None for all.
    """
    start = 0 if first is None else bisect.bisect_left(column.steps, first)
    end = len(column.steps) if last is None else bisect.bisect_right(column.steps, last)
    width = max(1, math.ceil((end - start) / points))
    found = Thinned([], [], [], [])
    for at in range(start, end, width):
        part = column.values[at : min(at + width, end)]
        found.steps.append(column.steps[min(at + width, end) - 1])
        found.low.append(min(part))
        found.high.append(max(part))
        found.mean.append(sum(part) / len(part))
    return found


class CurveReader:
    """Sorts events into curves as they come.

    Attributes:
        columns: the curves by name, see `curves_in`.
        last_step: the last step that was made; events that name none belong to it.
    """

    def __init__(self, most: int = 200) -> None:
        """`most`: how many curves are kept; a log can name any number."""
        self.columns: dict[str, Column] = {}
        self.last_step = 0
        self._most = most

    def take(self, event: Mapping[str, Any]) -> None:
        """Read one event; one that holds no figures of a curve is skipped."""
        step = whole(event.get("step"))
        at = self.last_step if step is None else step
        if event.get("kind") == "step":
            self.last_step = at
        for name, value in curves_in(event):
            column = self.columns.get(name)
            if column is None and len(self.columns) < self._most:
                column = self.columns[name] = Column()
            if column is not None:
                column.add(at, value)


def curves_in(event: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The figures of an event that belong to curves, by name; none if it is of a kind that has none.

    Those of a step are called as in the event, others after their kind and `/`. Of a round of validation they are the
    mean change of each kind of images, such as `validation/held_out`, and that in each band of noise, such as
    `validation/held_out/0-0.25`.
    """
    kind = event.get("kind")
    if kind not in _CURVES_OF:
        return
    if kind == "validation":
        yield from _changes(event)
        return
    prefix = "" if kind == "step" else f"{kind}/"
    for key, value in event.items():
        if key in _NO_FIGURES:
            continue
        figure = number(value)
        if figure is not None:
            yield f"{prefix}{key}", figure
        elif isinstance(value, dict):
            for inner, content in value.items():
                figure = number(content)
                if figure is not None:
                    yield f"{prefix}{key}/{inner}", figure


def _changes(event: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The means of a round of validation."""
    gap = event.get("gap")
    figures = event.get("figures")
    for name, found in {**(figures if isinstance(figures, dict) else {}), **({"gap": gap} if gap else {})}.items():
        if not isinstance(found, dict):
            continue
        if (mean := number(found.get("mean"))) is not None:
            yield f"validation/{name}", mean
        bands = found.get("bands")
        for band, inner in (bands if isinstance(bands, dict) else {}).items():
            mean = number(inner.get("mean")) if isinstance(inner, dict) else None
            if mean is not None:
                yield f"validation/{name}/{band}", mean


def number(value: Any) -> float | None:
    """A figure of an event; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if abs(value) < 1e300 else None
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """A whole figure of an event; None if it is none."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
    return value if is_whole else None
