"""Curves of a job: every figure that its events hold, in columns, thinned to what a screen can show."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolkit.output.figures import CurveReader, number, thinned, whole
from ui.server.jobs.folders import stamp
from ui.server.jobs.follow import Follower
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.refusal import Refusal
from ui.server.schemas import Mark, Metrics, Series
from ui.server.words import clean

_KEPT_JOBS = 6  # one that is looked at, and those that it is compared with
_MOST_MARKS = 5000


class Columns:
    """All curves of one job, read on as its log grows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS_FILE
        self.lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.curves = CurveReader()
        self.marks: list[Mark] = []
        self.shown: dict[str, tuple[Any, Series]] = {}
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
            self.curves.take(event)
            if kind == "job":
                self._mark(self.curves.last_step, "resume", event, "start")
            elif kind == "sample" and step is not None and not self._has("sample", step):
                self._mark(step, "sample", event, "samples")
            elif kind == "checkpoint" and event.get("state") == "written" and step is not None:
                self._mark(step, "checkpoint", event, "checkpoint")
            elif kind in ("end", "error", "done") and not self._has("end", self.curves.last_step):
                self._mark(self.curves.last_step, "end", event, str(event.get("status") or kind))

    def series(self, key: str, first: int | None, last: int | None, points: int) -> Series:
        """A curve for a screen. The part that was asked for last is kept, as long as nothing is added to it."""
        column = self.curves.columns[key]
        asked = first, last, points, column.num_changes
        kept = self.shown.get(key)
        if kept is not None and kept[0] == asked:
            return kept[1]
        found = thinned(column, points=points, first=first, last=last)
        made = Series(key=clean(key), steps=found.steps, low=found.low, mean=found.mean, high=found.high)
        self.shown[key] = asked, made
        return made

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
        with other.lock:  # someone may be reading it
            other.close()
    with columns.lock:
        columns.update()
        known = columns.curves.columns
        series = [columns.series(key, first, last, points) for key in (keys or known) if key in known]
        return Metrics(
            keys=[clean(key) for key in known],
            series=series,
            marks=list(columns.marks),
            last_step=columns.curves.last_step,
        )


def close_curves() -> None:
    """Let go of the logs of all jobs whose curves were read."""
    with _kept_lock:
        dropped = list(_kept.values())
        _kept.clear()
    for other in dropped:
        with other.lock:
            other.close()
