"""The curves of a report, drawn as SVG: no library draws them with the page's own colours, light and dark, in 10 kB."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.output.figures import Column, Thinned, thinned
from toolkit.units import GB

VALIDATION = "validation/"  # the curves that have charts of their own
WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 8, 22
_POINTS = 400
_SMOOTHED_OVER = 25  # a smoothed point is the mean of this share of the curve, 1/25

# Curves of the loss that share a chart, by what their names begin with -> title of that.
_LOSSES = {"terms": "Loss, by term", "loss_by_noise": "Loss, by share of noise", "loss_by_dataset": "Loss, by dataset"}
# Curves by name -> title of the chart, unit, and factor to that unit. The others have charts by what is before the `/`.
_CHARTS = {
    "loss": ("Loss", "", 1.0),
    "lr": ("Learning rate", "", 1.0),
    "grad_norm": ("Gradient norm, before clipping", "", 1.0),
    "step_s": ("Time per step", "s", 1.0),
}
_SCORES = {
    "scores/similarity": "similarity to the training images",
    "scores/prompt_match": "prompt match",
    "scores/drift": "drift of other prompts",
}
_MEMORY = {
    "memory/ram_bytes": "RAM",
    "memory/gpu_bytes": "card, tensors",
    "memory/gpu_reserved_bytes": "card, reserved",
}


@dataclass(frozen=True)
class Line:
    """One curve of a chart.

    Attributes:
        name: as the legend shows it.
        points: of the screen, `x,y x,y ...`.
        band: outline of the range between the lowest and highest figures; empty if there is none.
        smoothed: as `points`, of the smoothed curve; empty if it is not smoothed.
        last: the last figure, as text.
    """

    name: str
    points: str
    band: str = ""
    smoothed: str = ""
    last: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: what it shows.
        lines: its curves.
        y_ticks, x_ticks: place on the screen and text.
        marks: places of the checkpoints, with their steps.
        table: figures behind the pointer: `steps`, and `lines` with `name` and `values`.
    """

    title: str
    lines: Sequence[Line]
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, int]]
    table: Mapping[str, Any]


def charts(columns: Mapping[str, Column], checkpoints: Sequence[int]) -> list[Chart]:
    """All charts: the loss first, what is alike in one.

    Args:
        columns: curves by name.
        checkpoints: steps to mark.
    """
    made = []
    own = {name: column for name, column in columns.items() if not name.startswith(VALIDATION)}
    for title, unit, factor, named in _grouped(own):
        known = {name: column for name, column in named.items() if len(column.steps)}
        if known:
            is_smoothed = title.startswith(("Loss", "Length"))
            whole_title = f"{title}, {unit}" if unit else title
            curves = {name: _scaled(thinned(column, points=_POINTS), factor) for name, column in known.items()}
            made.append(chart_of(whole_title, curves, checkpoints, is_smoothed=is_smoothed))
    return made


def _grouped(columns: Mapping[str, Column]) -> Iterator[tuple[str, str, float, dict[str, Column]]]:
    left = dict(columns)
    for name, (title, unit, factor) in _CHARTS.items():
        if name in left:
            yield title, unit, factor, {name: left.pop(name)}
        if name == "loss":
            for group, group_title in _LOSSES.items():
                named = {key.partition("/")[2]: left.pop(key) for key in sorted(left) if key.startswith(f"{group}/")}
                if len(named) > 1:
                    yield group_title, "", 1.0, named
        if name == "grad_norm":
            named = {key.partition("/")[2]: left.pop(key) for key in sorted(left) if key.startswith("grad_by_noise/")}
            yield "Gradient norm, by share of noise", "", 1.0, named
    scores = {_SCORES.get(key, key): left.pop(key) for key in sorted(left) if key.startswith("scores/")}
    yield "Picture scores", "", 1.0, scores
    memory = {title: left.pop(key) for key, title in _MEMORY.items() if key in left}
    yield "Memory", "GB", 1 / GB, memory
    for group in dict.fromkeys(key.rpartition("/")[0] for key in left):
        named = {key.rpartition("/")[2]: column for key, column in left.items() if key.rpartition("/")[0] == group}
        yield group.replace("/", ", ").capitalize() or "Other", "", 1.0, named


@dataclass(frozen=True)
class _Plane:
    """Where steps and figures are on the screen; a figure beyond the axis stands at its edge."""

    first: float
    last: float
    low: float
    high: float

    def x_of(self, step: float) -> float:
        return round(_LEFT + (step - self.first) / max(self.last - self.first, 1) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, steps: Sequence[float], values: Sequence[float]) -> str:
        return " ".join(f"{self.x_of(step)},{self.y_of(value)}" for step, value in zip(steps, values, strict=True))

    def line(self, name: str, curve: Thinned, *, is_smoothed: bool) -> Line:
        band = smoothed = ""
        if curve.low != curve.high:
            band = f"{self.path(curve.steps, curve.high)} {self.path(curve.steps[::-1], curve.low[::-1])}"
        if is_smoothed and len(curve.mean) > _SMOOTHED_OVER:
            smoothed = self.path(curve.steps, _smoothed(curve.mean))
        return Line(name, self.path(curve.steps, curve.mean), band, smoothed, _text(curve.mean[-1]))


def chart_of(
    title: str, curves: Mapping[str, Thinned], checkpoints: Sequence[int], *, is_smoothed: bool = False
) -> Chart:
    """A chart of curves that are not empty.

    Args:
        title: what it shows.
        curves: by the names of the legend.
        checkpoints: steps to mark.
        is_smoothed: whether the curves are noisy: each gets a smoothed one.
    """
    first = min(curve.steps[0] for curve in curves.values())
    last = max(curve.steps[-1] for curve in curves.values())
    low, high, ticks = _axis(curves, is_smoothed=is_smoothed)
    plane = _Plane(first, last, low, high)
    figures = [
        {"name": name, "steps": curve.steps, "values": [_text(value) for value in curve.mean]}
        for name, curve in curves.items()
    ]
    return Chart(
        title,
        [plane.line(name, curve, is_smoothed=is_smoothed) for name, curve in curves.items()],
        [(plane.y_of(tick), _text(tick)) for tick in ticks],
        [(plane.x_of(step), f"{step:,.0f}") for step in dict.fromkeys((first, (first + last) // 2, last))],
        [(plane.x_of(step), step) for step in checkpoints if first <= step <= last],
        {"left": _LEFT, "right": WIDTH - _RIGHT, "first": first, "last": last, "lines": figures},
    )


def _scaled(curve: Thinned, factor: float) -> Thinned:
    low, mean, high = ([value * factor for value in part] for part in (curve.low, curve.mean, curve.high))
    return Thinned(curve.steps, low, mean, high)


def _axis(curves: Mapping[str, Thinned], *, is_smoothed: bool) -> tuple[float, float, list[float]]:
    """The lowest and highest figure of the axis, and round figures between them.

    A noisy curve has a few figures far above the rest; the axis ends at the 99th percentile, and they at its edge.
    """
    highs = sorted(value for curve in curves.values() for value in curve.high)
    low = min(value for curve in curves.values() for value in curve.low)
    high = highs[int(0.99 * (len(highs) - 1))] if is_smoothed else highs[-1]
    if low > 0 and low < 0.5 * high:
        low = 0.0
    if high <= low:
        low, high = (low - abs(low) * 0.1 - 1e-12, high + abs(high) * 0.1 + 1e-12)
    spacing = 10 ** math.floor(math.log10((high - low) / 2))
    spacing *= next(factor for factor in (5, 2.5, 2, 1) if (high - low) / (spacing * factor) >= 2)
    count = math.floor((high - low) / spacing)
    start = math.ceil(low / spacing) * spacing
    return low, high, [start + index * spacing for index in range(count + 1) if start + index * spacing <= high]


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each figure and those around it; at the ends, of fewer."""
    reach = max(1, len(values) // (2 * _SMOOTHED_OVER))
    parts = (values[max(0, at - reach) : at + reach + 1] for at in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _text(value: float) -> str:
    return "0" if abs(value) < 1e-15 else f"{value:.4g}"
