"""Curves of a job: every figure that its events hold, in columns, thinned to what a screen can show."""

from __future__ import annotations

import bisect
import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ui.server.jobs.folders import stamp
from ui.server.jobs.follow import Follower
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.jobs.summary import number, whole
from ui.server.refusal import Refusal
from ui.server.schemas import Mark, Metrics, Series
from ui.server.words import clean

_KEPT_JOBS = 6  # one that is looked at, and those that it is compared with
_MOST_KEYS = 200
_MOST_MARKS = 5000
_NO_FIGURES = {"time", "kind", "step", "index", "seed", "width", "height", "run", "done", "total", "exit_code", "bytes"}
_CURVES_OF = {"step", "memory", "validation", "metric", "metrics"}


@dataclass
class Column:
    """One curve: steps that only grow, and a figure for each."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    shown: tuple[Any, Series] | None = None
    """The part that was asked for last, and its thinned points."""

    def add(self, step: float, value: float) -> None:
        """A step that was made before is made anew: what followed it was set aside."""
        if self.steps and step <= self.steps[-1]:
            keep = bisect.bisect_left(self.steps, step)
            del self.steps[keep:]
            del self.values[keep:]
        self.shown = None
        self.steps.append(step)
        self.values.append(value)


class Columns:
    """All curves of one job, read on as its log grows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS_FILE
        self.lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.columns: dict[str, Column] = {}
        self.marks: list[Mark] = []
        self.last_step = 0
        self._follower: Follower | None = None

    def update(self) -> None:
        """Read what was written since the last time."""
        if stamp(self.path) is None:
            self.close()
            return
        if self._follower is None:
            self._follower = Follower(self.path)
        for events in self._follower.batches(with_older=True):
            self._take(events)

    def close(self) -> None:
        """Let go of the file."""
        if self._follower is not None:
            self._follower.close()
        self._clear()

    def _take(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            kind = event.get("kind")
            step = whole(event.get("step"))
            if kind == "job":
                self._mark(self.last_step, "resume", event, "start")
            elif kind in _CURVES_OF:
                at = self.last_step if step is None else step
                if kind == "step":
                    self.last_step = at
                for key, value in _figures(event, "" if kind == "step" else f"{kind}/"):
                    column = self.columns.get(key)
                    if column is None and len(self.columns) < _MOST_KEYS:
                        column = self.columns[key] = Column()
                    if column is not None:
                        column.add(at, value)
            elif kind == "sample" and step is not None and not self._has("sample", step):
                self._mark(step, "sample", event, "samples")
            elif kind == "checkpoint" and event.get("state") == "written" and step is not None:
                self._mark(step, "checkpoint", event, "checkpoint")
            elif kind in ("end", "error", "done") and not self._has("end", self.last_step):
                self._mark(self.last_step, "end", event, str(event.get("status") or kind))

    def _has(self, kind: str, step: int) -> bool:
        return any(mark.kind == kind and mark.step == step for mark in self.marks[-8:])

    def _mark(self, step: int, kind: Any, event: dict[str, Any], label: str) -> None:
        if len(self.marks) < _MOST_MARKS:
            self.marks.append(Mark(step=step, kind=kind, time=number(event.get("time")) or 0.0, label=clean(label)))


_kept: OrderedDict[str, Columns] = OrderedDict()
_kept_lock = threading.Lock()


def metrics_of(job: Job, keys: list[str], first: int | None, last: int | None, points: int) -> Metrics:
    """Curves of a job.

    Args:
        job: the job.
        keys: names of curves; empty for all.
        first: step to begin at; None for the first.
        last: step to end at; None for the last.
        points: the most that a curve may have.

    Raises:
        Refusal: the range is empty.
    """
    if first is not None and last is not None and last < first:
        raise Refusal(422, "`to` must not be less than `from`.", "to")
    with _kept_lock:
        columns = _kept.setdefault(job.id, Columns(job.folder))
        _kept.move_to_end(job.id)
        dropped = [_kept.popitem(last=False)[1] for _ in range(len(_kept) - _KEPT_JOBS)]
    for other in dropped:
        with other.lock:  # somebody may be reading it
            other.close()
    with columns.lock:
        columns.update()
        known = columns.columns
        series = [_series(key, known[key], first, last, points) for key in (keys or known) if key in known]
        return Metrics(
            keys=[clean(key) for key in known], series=series, marks=list(columns.marks), last_step=columns.last_step
        )


def close_curves() -> None:
    """Let go of the logs of all jobs whose curves were looked at."""
    with _kept_lock:
        dropped = list(_kept.values())
        _kept.clear()
    for other in dropped:
        with other.lock:
            other.close()


def _figures(event: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
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


def _series(key: str, column: Column, first: int | None, last: int | None, points: int) -> Series:
    asked = first, last, points
    if column.shown is not None and column.shown[0] == asked:
        return column.shown[1]
    start = 0 if first is None else bisect.bisect_left(column.steps, first)
    end = len(column.steps) if last is None else bisect.bisect_right(column.steps, last)
    count = max(0, end - start)
    width = max(1, math.ceil(count / points))
    steps: list[float] = []
    low: list[float] = []
    mean: list[float] = []
    high: list[float] = []
    for at in range(start, end, width):
        part = column.values[at : min(at + width, end)]
        steps.append(column.steps[min(at + width, end) - 1] if width > 1 else column.steps[at])
        low.append(min(part))
        high.append(max(part))
        mean.append(sum(part) / len(part))
    made = Series(key=clean(key), steps=steps, low=low, mean=mean, high=high)
    column.shown = asked, made
    return made
