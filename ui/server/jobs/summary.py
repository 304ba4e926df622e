"""What the events of a job come to: where it is, how fast, and what it has last said."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.output.figures import number, whole
from ui.server.jobs.follow import parse_lines

_STEP = b'"kind": "step"'
_READ_STEPS = 20
_HEAD, _TAIL = 1 << 12, 1 << 13  # a server that starts reads those of every job


@dataclass
class Summary:
    """What has been read of a job's events.

    Attributes:
        name, arch, total_steps: of the last `job` event.
        job_time: when it was written; 0 before the first.
        run: the name of its start; empty if it says none.
        step, loss, lr: of the last step.
        steps_s: seconds that each of the last steps took.
        losses: of the last steps.
        stage: name of the last stage, and whether it is done.
        progress: of the last `progress` event.
        last_time: of the last event.
        error: the last `error` event.
        end: the last `end` event.
        gpu_bytes: of the card that its process holds; None if it has not said so yet.
        sample: path of the last sample, as written.
        sampled, saved: step of the last sample and checkpoint.
    """

    name: str | None = None
    arch: str | None = None
    total_steps: int = 0
    job_time: float = 0.0
    run: str = ""
    step: int = 0
    loss: float | None = None
    lr: float | None = None
    steps_s: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    stage: tuple[str, bool] = ("", True)
    progress: dict[str, Any] | None = None
    has_stepped: bool = False
    last_time: float = 0.0
    error: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    gpu_bytes: int | None = None
    sample: str | None = None
    sampled: int | None = None
    saved: int | None = None

    @property
    def step_s(self) -> float | None:
        """Seconds that a step takes: the median of the last ones."""
        return statistics.median(self.steps_s) if self.steps_s else None

    @property
    def recent_loss(self) -> float | None:
        """Mean loss of the last steps: that of one step says little."""
        return statistics.fmean(self.losses) if self.losses else None

    def take(self, events: Iterable[dict[str, Any]]) -> None:
        """Read on."""
        for event in events:
            kind = event.get("kind")
            self.last_time = number(event.get("time")) or self.last_time
            if kind == "step":
                self._step(event)
            elif kind == "job":
                self._job(event)
            elif kind == "stage":
                self.stage = str(event.get("name", "")), event.get("state") == "done"
                self.progress = None
            elif kind == "memory":
                self.gpu_bytes = whole(event.get("gpu_reserved_bytes"))
            elif kind == "progress":
                self.progress = event
            elif kind == "sample":
                self.sample, self.sampled = str(event.get("path", "")), whole(event.get("step"))
            elif kind == "checkpoint" and event.get("state") == "written":
                self.saved = whole(event.get("step"))
            elif kind == "error":
                self.error = event
            elif kind == "end":
                self.end = event

    def _job(self, event: dict[str, Any]) -> None:
        self.name, self.arch = str(event.get("name", "")), str(event.get("arch", ""))
        self.total_steps = whole(event.get("steps")) or 0
        self.job_time = number(event.get("time")) or 0.0
        self.run = str(event.get("run") or "")
        self.stage, self.progress, self.has_stepped = ("", True), None, False
        self.error = self.end = self.gpu_bytes = None
        self.steps_s.clear()
        self.losses.clear()

    def _step(self, event: dict[str, Any]) -> None:
        self.step = whole(event.get("step")) or 0
        self.loss, self.lr = number(event.get("loss")), number(event.get("lr"))
        self.has_stepped, self.progress = True, None
        if self.loss is not None:
            self.losses.append(self.loss)
        seconds = number(event.get("step_s"))
        if seconds is not None and seconds >= 0:
            self.steps_s.append(seconds)


def read_summary(path: Path) -> Summary:
    """The summary of a log that nobody writes any more, by the beginning and the end of its newest file."""
    summary = Summary()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = file.seek(0, 2)
            start = max(len(head), size - _TAIL)
            file.seek(start)
            tail = file.read(_TAIL)
    except OSError:
        return summary
    is_cut = start > len(head)  # what is in between is not read
    lines = [*head.split(b"\n")[:-1], *tail.split(b"\n")[1:]] if is_cut else (head + tail).split(b"\n")
    summary.take(parse_lines(_last_steps(lines)))
    return summary


def _last_steps(lines: list[bytes]) -> list[bytes]:
    """The lines without the steps before the last few: a server that starts parses those of every job."""
    steps = [number for number, line in enumerate(lines) if _STEP in line]
    passed_over = set(steps[:-_READ_STEPS])
    return [line for number, line in enumerate(lines) if number not in passed_over]
