"""How long earlier drawings here took: what came before their first picture, and each picture."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import load_job
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.errors import UserError
from toolkit.output.figures import number
from ui.server.jobs.folders import stamp
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import CONFIG_FILE, EVENTS_FILE, Job
from ui.server.jobs.settings import PICTURES

_MOST_RUNS = 20


@dataclass(frozen=True)
class Pace:
    """How fast drawings like one were here, a figure for each of them.

    Attributes:
        before_s: seconds until the first picture was begun: loading, encoding prompts.
        picture_s: seconds of each picture, scaled to its size and steps.
    """

    before_s: tuple[float, ...]
    picture_s: tuple[float, ...]

    @property
    def num_runs(self) -> int:
        """Drawings that this rests on."""
        return len(self.picture_s)

    def range_s(self, num_pictures: int) -> tuple[float, float]:
        """Seconds of a drawing, from the best to the worst of those that were; at least 10 % apart from the middle."""
        before, picture = statistics.median(self.before_s), statistics.median(self.picture_s)
        low = min(*self.before_s, 0.9 * before) + num_pictures * min(*self.picture_s, 0.9 * picture)
        high = max(*self.before_s, 1.1 * before) + num_pictures * max(*self.picture_s, 1.1 * picture)
        return low, high


def pace_of(process: GenerateProcessConfig, jobs: Iterable[Job], device: str) -> Pace | None:
    """The pace of a drawing by that of others with its model; None if there are none.

    Args:
        process: the drawing.
        jobs: all jobs here.
        device: that it will run on, as `pictures` of EventLog names it.
    """
    before, picture = [], []
    alike = [job for job in jobs if job.settings.kind == PICTURES and job.settings.arch == process.model.arch]
    for job in alike[:_MOST_RUNS]:
        file = job.folder / CONFIG_FILE
        work, times = _work_of_file(file, stamp(file), _kind(process)), _times(job, device)
        if work is None or times is None or not 0.1 <= work_of(process) / work <= 10:
            continue
        before.append(times[0])
        picture.append(times[1] * work_of(process) / work)
    return Pace(tuple(before), tuple(picture)) if picture else None


def work_of(process: GenerateProcessConfig) -> float:
    """Pixels times steps of the mean picture."""
    items = process.generate.items(process.trigger_word)
    return sum(item.width * item.height * item.sample_steps for item in items) / len(items)


def _times(job: Job, device: str) -> tuple[float, float] | None:
    """Seconds before the first picture, and for each, of the last run of a job, if it was on this device."""
    begun, drawn, is_here = 0.0, list[float](), False
    for event in events_of(job.folder / EVENTS_FILE, "job", "pictures", "sample"):
        time = number(event.get("time"))
        if event["kind"] == "job" and time is not None:
            begun, drawn = time, []
        elif event["kind"] == "pictures":
            is_here = event.get("device") == device
        elif time is not None:
            drawn.append(time)
    gaps = [after - former for former, after in itertools.pairwise(drawn)]
    longest = max(gaps, default=0.0)
    if not begun or not is_here or longest <= 0:
        return None
    # pictures of one batch are written at once: the first long gap ends the first batch
    first = next(place for place, gap in enumerate(gaps, 1) if gap > longest / 2)
    each = (drawn[-1] - drawn[0]) / (len(drawn) - first)
    return max(0.0, drawn[0] - begun - first * each), each


@functools.lru_cache(maxsize=256)
def _work_of_file(path: Path, changed: Any, kind: tuple[Any, ...]) -> float | None:
    """Of an earlier drawing; None if its model was stored in another way, or its settings cannot be read."""
    try:
        process = load_job(path).config.process[0]
    except (UserError, OSError):
        return None
    return work_of(process) if isinstance(process, GenerateProcessConfig) and _kind(process) == kind else None


def _kind(process: GenerateProcessConfig) -> tuple[Any, ...]:
    """What else must be equal for two drawings to be as fast as each other."""
    model = process.model
    return model.name_or_path, model.quantize, model.qtype, model.layer_offloading, process.dtype
