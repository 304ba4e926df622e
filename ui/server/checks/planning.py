"""How long the jobs that wait will take, worked out beside the queue."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import Any

from ui.server.checks.checker import Checker, CheckInputs
from ui.server.checks.estimate import estimate
from ui.server.jobs.folders import stamp
from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.schemas import Planned

_LOOK_S = 1.0
_SETTLE_S = 2.0  # a job that starts at once is checked by the queue itself: not twice at a time

log = logging.getLogger("ui.server")


class Planner:
    """Looks at jobs as they come into the queue, and again when their text has changed or a run like them has ended."""

    def __init__(self, registry: Registry, checker: Checker) -> None:
        self.registry = registry
        self.checker = checker
        self._known: dict[str, tuple[Any, ...]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop. What goes wrong with one look is logged, and the next one tries again."""
        while not stop.wait(_LOOK_S):
            try:
                self.look(stop)
            except Exception:
                log.exception("planning the queue failed")

    def look(self, stop: threading.Event | None = None) -> None:
        """Plan what is not planned yet: what runs without a step, then what waits, in the order of the queue."""
        jobs = self.registry.all()
        wanted = [job for job in jobs if _is_wanted(job)]
        self._known = {job.id: self._known[job.id] for job in wanted if job.id in self._known}
        for job in sorted(wanted, key=lambda job: (not job.is_live, job.entry.position if job.entry else 0.0)):
            has_measured = any(other.settings.arch == job.settings.arch and other.summary.steps_s for other in jobs)
            key = (stamp(job.text_path), job.entry.arguments if job.entry else (), has_measured)
            if self._known.get(job.id) == key or (stop is not None and stop.is_set()):
                continue
            planned = self._plan(job)
            with self.registry.lock:
                job.planned = planned
                job.version += 1  # pages are told with the next look
            self._known[job.id] = key

    def _plan(self, job: Job) -> Planned:
        try:
            text = job.text_path.read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            return _unknown("its job file cannot be read")
        try:
            found = self.checker.check(_asked(text, job.entry.arguments if job.entry else ()))
            told = estimate(found, self.registry.all())
        except Exception:  # as in the queue: the job itself says what is wrong
            log.exception("%s cannot be planned", job.folder)
            return _unknown("its check failed")
        if told is not None:
            return Planned(low_s=told.low_s, high_s=told.high_s, basis=told.basis)
        return _unknown("there has been no similar run here" if found.facts["ok"] else "its check finds problems")


def _is_wanted(job: Job) -> bool:
    """Whether it waits, or runs without having made the step that tells more than any plan."""
    entry, now = job.entry, time.time()
    if job.is_live:
        is_early = not job.summary.has_stepped or job.is_launch_newer
        return is_early and job.launch is not None and now - job.launch.time > _SETTLE_S
    return entry is not None and bool(entry.place) and now - entry.wished > _SETTLE_S


def _unknown(why: str) -> Planned:
    return Planned(low_s=None, high_s=None, basis=why)


def _asked(text: str, arguments: tuple[str, ...]) -> CheckInputs:
    """What is to be checked of a start with these arguments."""
    after = dict(itertools.pairwise(arguments))
    step = after.get("--from-step")
    return CheckInputs(
        text, from_step=None if step is None else int(step), accept="--accept-config-change" in arguments
    )
