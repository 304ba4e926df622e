"""All jobs that the server knows, refreshed continuously."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from toolkit.output.sample_files import SAMPLES
from ui.server.jobs.files import file_id
from ui.server.jobs.folders import JOB_FILE, FolderFinder, job_id, look_for_output
from ui.server.jobs.job import Job
from ui.server.jobs.launch import Running
from ui.server.jobs.lost import Anchor, Anchors
from ui.server.jobs.rows import row_of
from ui.server.jobs.starts import process_of
from ui.server.refusal import Refusal
from ui.server.roots import Roots
from ui.server.schemas import JobRow, JobState, Message
from ui.server.store import Entry, Store
from ui.server.stream import Hub

_ALL_S = 1.0
_FIND_S = 2.0
_MOST_STEPS = 50  # of one message
_UNWATCHED = 4  # times as long between looks while no page is open
_ROWS_S = 0.5  # between rows of a job whose state is still the same

log = logging.getLogger("ui.server")


@dataclass(frozen=True)
class _Sent:
    """The row of a job that pages were sent last, and when by a clock that nobody sets."""

    version: int
    state: JobState
    time: float


class Registry:
    """Every output folder under the roots, as a job. `lock` is held while a job is changed.

    Attributes:
        waits: why a waiting job has not been started, by id; the scheduler says so.
        held_since: when the first of a queue was first kept waiting by something outside it, by id of the job and by a
            clock that nobody sets.
        has_begun: set as soon as `run` holds the lock for its first look.
    """

    def __init__(self, roots: Roots, store: Store, hub: Hub, *, poll_s: float) -> None:
        self.roots = roots
        self.store = store
        self.hub = hub
        self.poll_s = poll_s
        self.running = Running()
        self.anchors = Anchors(store)
        self.lock = threading.RLock()
        self.waits: dict[str, str] = {}
        self.held_since: dict[str, float] = {}
        self._jobs: dict[str, Job] = {}
        self._finder = FolderFinder(roots, look_for_output)
        self._sent: dict[str, _Sent] = {}
        self.has_begun = threading.Event()
        self._complained: set[str] = set()
        self._found = self._looked = 0.0

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        with self.lock:
            return sorted(self._jobs.values(), key=lambda job: (-(job.notes.created or job.changed), job.id))

    def get(self, id_: str) -> Job:
        """A job.

        Raises:
            Refusal: there is none of this id.
        """
        with self.lock:
            job = self._jobs.get(id_)
            if job is not None and not job.folder.is_dir() and not self._has_only_lost(job):
                self._drop(job)
                job = None
        if job is None:
            raise Refusal(404, "Job not found. It may have been moved or deleted.")
        return job

    def find(self, id_: str) -> Job | None:
        """A job; None if there is none of this id."""
        with contextlib.suppress(Refusal):
            return self.get(id_)
        return None

    def row(self, job: Job) -> JobRow:
        """A job as a row of the list."""
        with self.lock:
            return row_of(job, self._position(job))

    def rows(self) -> list[JobRow]:
        """Every job as a row of the list, the newest first."""
        with self.lock:
            positions = self._positions()
            return [row_of(job, positions.get(job.id)) for job in self.all()]

    def add(self, folder: Path) -> Job:
        """The job of an output folder that has just been made."""
        with self.lock:
            job = self._add(folder)
            assert job is not None, f"{folder} is outside all root folders"
            self._refresh(job)
            return job

    def drop(self, job: Job) -> None:
        """Forget a job whose folder was moved away."""
        with self.lock:
            self._drop(job)
            self.store.forget(job.id)

    def refresh(self, job: Job) -> None:
        """Look at a job now."""
        with self.lock:
            self._refresh(job)
            self._tell_rows()

    def look(self, *, everywhere: bool = False) -> None:
        """Look at live jobs, at all of them less often, and send the changes to open pages."""
        now = time.monotonic()
        with self.lock:
            self.running.reap()
            if everywhere or now - self._found >= _FIND_S:
                self._find()
                self._found = time.monotonic()
            is_all = everywhere or now - self._looked >= _ALL_S
            entries = self.store.entries()
            for job in list(self._jobs.values()):
                if is_all or job.is_live:
                    self._look_at(job, entries.get(job.id))
            if is_all:
                self._looked = time.monotonic()
            self._tell_rows()

    def _look_at(self, job: Job, entry: Entry | None) -> None:
        """One folder that cannot be read, or that nobody has foreseen, must not keep others from being looked at."""
        try:
            was_lost = job.lost
            self._tell_events(job, job.refresh(entry, self.waits.get(job.id, "")))
            if was_lost and not job.lost and not job.folder.is_dir():
                self._drop(job)  # its process has ended
        except Exception:
            if job.id not in self._complained:
                self._complained.add(job.id)
                log.exception("%s cannot be looked at", job.folder)

    def run(self, stop: threading.Event, also: Callable[[], None] | None = None) -> None:
        """Look until asked to stop. An error is logged, and the next look tries again."""
        with self.lock:  # requests for jobs wait until all have been looked at once; the page itself does not
            self.has_begun.set()
            self._look_at_all()
        while not stop.wait(self.poll_s if self.hub.num_readers else self.poll_s * _UNWATCHED):
            try:
                self.look()
                if also is not None:
                    also()
            except Exception:
                log.exception("looking at the jobs failed")

    def _look_at_all(self) -> None:
        try:
            self.look(everywhere=True)
        except Exception:
            log.exception("looking at the jobs failed")

    def close(self) -> None:
        """Let go of files."""
        with self.lock:
            self.running.close()
            for job in self._jobs.values():
                job.close()

    def _refresh(self, job: Job) -> None:
        events = job.refresh(self.store.entry(job.id), self.waits.get(job.id, ""))
        self._tell_events(job, events)

    def _find(self) -> None:
        folders = set(self._finder.find()) | self._remembered() | self._left_behind()
        known = {job.folder: job for job in self._jobs.values()}
        for folder in folders - known.keys():
            self._add(folder)
        for folder in known.keys() - folders:
            if not folder.is_dir() and not self._has_only_lost(known[folder]):
                self._drop(known[folder])

    def _left_behind(self) -> set[Path]:
        """Folders that are gone, but whose processes live."""
        return {anchor.folder for anchor in self.anchors.alive() if self._is_left_behind(anchor)}

    def _has_only_lost(self, job: Job) -> bool:
        anchor = self.anchors.of(job.id)
        return anchor is not None and self._is_left_behind(anchor)

    def _is_left_behind(self, anchor: Anchor) -> bool:
        """Whether the process of a folder that is gone is shown nowhere else: a moved folder shows it itself."""
        others = (job for job in self._jobs.values() if job.id != anchor.id and job.lost and job.away is None)
        found = {
            process for job in others for process in (process_of(job.run), job.launch.process if job.launch else None)
        }
        return not anchor.folder.is_dir() and anchor.process not in found

    def _remembered(self) -> set[Path]:
        """Folders that the index knows, also where they lie deeper, or among more, than is walked through."""
        return {entry.folder for entry in self.store.entries().values() if (entry.folder / JOB_FILE).is_file()}

    def _add(self, folder: Path) -> Job | None:
        root = self.roots.root_of(folder)
        if root is None or not folder.is_relative_to(root):  # a link that leads elsewhere
            return None
        id_ = job_id(root, folder)
        return self._jobs.setdefault(id_, Job(id_, root, folder, self.anchors))

    def _drop(self, job: Job) -> None:
        job.close()
        if self._jobs.pop(job.id, None) is not None:
            self._sent.pop(job.id, None)
            self.hub.publish("jobs", Message(kind="removed", job_id=job.id))

    def _positions(self) -> dict[str, int]:
        """Places of waiting jobs in the queue of their card, from 1."""
        counts: dict[int | None, int] = {}
        positions: dict[str, int] = {}
        waiting = [job for job in self._jobs.values() if job.entry is not None and job.entry.place]
        for job in sorted(waiting, key=lambda job: job.entry.position if job.entry else 0.0):
            gpu = job.entry.gpu if job.entry else None
            counts[gpu] = positions[job.id] = counts.get(gpu, 0) + 1
        return positions

    def _position(self, job: Job) -> int | None:
        return self._positions().get(job.id)

    def _tell_rows(self) -> None:
        now = time.monotonic()
        changed = [job for job in self._jobs.values() if self._is_due(job, now)]
        if not changed:
            return
        for job in changed:
            self._sent[job.id] = _Sent(job.version, job.state, now)
        positions = self._positions()
        rows = [row_of(job, positions.get(job.id)) for job in changed]
        self.hub.publish("jobs", Message(kind="jobs", jobs=rows))

    def _is_due(self, job: Job, now: float) -> bool:
        """Whether a changed row is sent now: of a run that only continues, at most twice a second."""
        sent = self._sent.get(job.id)
        if sent is None or sent.version == job.version:
            return sent is None
        return not job.is_live or sent.state != job.state or now - sent.time >= _ROWS_S

    def _tell_events(self, job: Job, events: list[dict[str, Any]]) -> None:
        if events:
            self.hub.publish(
                f"job:{job.id}", Message(kind="job", job_id=job.id, events=[_shown(job, it) for it in _fewer(events)])
            )


def _shown(job: Job, event: dict[str, Any]) -> dict[str, Any]:
    """An event as a page can use it: a picture by the id of its file."""
    if event.get("kind") == "sample" and isinstance(event.get("path"), str):
        path = PurePosixPath(event["path"].replace("\\", "/"))
        folder = job.folder / SAMPLES if path.parent.name == SAMPLES else job.folder
        return event | {"file": file_id(job, folder / path.name)}
    return event


def _fewer(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = sum(event.get("kind") == "step" for event in events)
    if steps <= _MOST_STEPS:
        return events
    stride, count, kept = -(-steps // _MOST_STEPS), 0, []
    for event in events:
        if event.get("kind") == "step":
            count += 1
            if count % stride and count != steps:
                continue
        kept.append(event)
    return kept
