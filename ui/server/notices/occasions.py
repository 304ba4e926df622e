"""Which states of a job, and which lack of disk space, people are notified of, and in which words."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from toolkit.output.figures import number
from toolkit.units import gigabytes
from ui.server.jobs.job import Job
from ui.server.jobs.starts import wish_of
from ui.server.schemas import DiskInfo, JobState, Notice, Occasion
from ui.server.words import clean, printable

_LONGEST = 500
LOW_BYTES, ENOUGH_BYTES = 5 << 30, 8 << 30
HELD_S = 600.0  # that a job may wait for room before people are notified

OCCASION_OF: Mapping[JobState, tuple[Occasion, str]] = {
    "done": ("done", "done"),
    "failed": ("failed", "failed"),
    "killed": ("failed", "killed"),
    "rebooted": ("failed", "ended by a reboot"),
    "refused": ("needs", "needs fixing before it can start"),
    "unresponsive": ("needs", "not responding"),
    "lost": ("needs", "its folder is lost"),
}


def notice_of(job: Job) -> Notice | None:
    """The notice about a job as it is now; None if nobody needs to know, or if the user has asked for this state."""
    found = OCCASION_OF.get(job.state)
    if found is None or (job.state == "killed" and wish_of(job.entry, job.launch, job.run)):
        return None
    occasion, words = found
    return Notice(
        id=_id(job.id, job.last_start, words, job.trouble),
        occasion=occasion,
        job_id=job.id,
        title=line_of(f"{name_of(job)}: {words}"),
        text=line_of(job.reason),
        time=_when(job),
    )


def notice_of_held(job: Job, held_s: float) -> Notice:
    """The notice that something outside the queue keeps its first job waiting."""
    entry = job.entry
    return Notice(
        id=_id("held", job.id, repr(entry.wished if entry else 0.0)),
        occasion="needs",
        job_id=job.id,
        title=line_of(f"{name_of(job)}: held back for {round(held_s / 60)} minutes"),
        text=line_of(f"{job.waits} It starts by itself once there is room; the jobs behind it wait too."),
        time=time.time(),
    )


def notice_of_disk(disk: DiskInfo) -> Notice:
    """The notice that a drive is nearly full."""
    return Notice(
        id=_id("disk", disk.root),
        occasion="needs",
        job_id=None,
        title=f"Disk nearly full: {gigabytes(disk.free_bytes)} GB free",
        text=line_of(
            f"A job is running, and {disk.root} has {gigabytes(disk.free_bytes)} GB left. Free up some space."
        ),
        time=time.time(),
    )


def name_of(job: Job) -> str:
    """The name of a job in notices."""
    return job.settings.name or job.summary.name or job.folder.name


def line_of(text: str) -> str:
    """The beginning of a text, in one line that steers nothing."""
    first = printable(clean(" ".join(text.split())))
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"


def _when(job: Job) -> float:
    """When it came about, by what its files say: notes that are written later must not make it new."""
    if job.state in ("unresponsive", "lost") or job.trouble:
        return time.time()
    run, launch = job.run, job.launch
    if launch is not None and job.is_launch_newer:
        return launch.time
    ended = number(run.end.get("time")) if run is not None else None
    started = number(run.start.get("time")) if run is not None else None
    return ended or max(job.summary.last_time, started or 0.0)


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
