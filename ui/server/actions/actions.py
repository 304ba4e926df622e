"""What people do with jobs: make, change, start, stop, copy, and resume from a checkpoint."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from toolkit.files import write_text
from toolkit.output.bundles import BrokenBundle, read_bundle, step_folders
from toolkit.runtime.control import Command
from ui.server.actions.control import ask, end_at_once
from ui.server.actions.guards import must_have_folder, must_rest, see
from ui.server.actions.output_folders import MOST_COPIES, OutputFolders
from ui.server.jobs.folders import JOB_FILE
from ui.server.jobs.job import Job
from ui.server.jobs.notes import new_notes, write_notes
from ui.server.jobs.registry import Registry
from ui.server.jobs.starts import token_of
from ui.server.jobs.text import TextFolder, edited, name_key, parsed, require_inside
from ui.server.refusal import Refusal
from ui.server.schemas import NO_CARD, ActionRequest, JobChange, JobRequest
from ui.server.store import Entry, Place, Wish


class Actions:
    """Changes jobs. Every method answers when the change is on disk; `kick` lets the scheduler look at the queue."""

    def __init__(self, registry: Registry, texts: TextFolder, kick: Callable[[], None]) -> None:
        self.registry = registry
        self.roots = registry.roots
        self.store = registry.store
        self.texts = texts
        self.folders = OutputFolders(texts, registry.roots)
        self.kick = kick

    def make(self, request: JobRequest, *, origin: str = "") -> Job:
        """A new job in a folder of its own.

        Args:
            request: its text, and whether it starts at once.
            origin: id of the job that it is a copy of.

        Raises:
            Refusal: the text is none, names a path outside the roots, or a folder that is taken.
        """
        folder = self.folders.folder_of(request.yaml)
        with self.registry.lock:
            lost = self.registry.anchors.living_in(folder)
            is_taken = folder.exists() and any(folder.iterdir())
            if lost is not None and not is_taken:
                what = f"{folder} was moved or deleted, but process {lost.pid} still runs there. Stop that job first."
                raise Refusal(409, what, "config.name")
            if is_taken:
                raise Refusal(409, [self.folders.taken(folder, request.yaml)])
            write_text(folder / JOB_FILE, request.yaml)
            try:
                write_notes(folder, new_notes(origin))
            except OSError:
                (folder / JOB_FILE).unlink(missing_ok=True)  # else the name would be taken by a job that nobody sees
                raise
            job = self.registry.add(folder)
            self._put(job, gpu=request.gpu)
            if request.start:
                self._enqueue(job)
            self.registry.refresh(job)
        return job

    def change(self, job: Job, change: JobChange) -> Job:
        """Another text, card, note or number of stars.

        Raises:
            Refusal: its run is under way, or the text would move it to another folder.
        """
        with self.registry.lock:
            if change.yaml is not None:
                must_rest(self.registry, job, "A running job can't be edited. Clone it, or stop it first.")
                if change.before is not None and job.shown_text not in (change.before, change.yaml):
                    what = (
                        "This job was changed in another tab since you opened it. Your version is kept in this "
                        "browser. Reload the page to see what is different, then save again."
                    )
                    raise Refusal(409, what)
                folder = self.folders.folder_of(change.yaml)
                if folder != job.folder:
                    what = f"With this name, the output would go to {folder}. To use another name, clone the job."
                    raise Refusal(409, what, "config.name")
                write_text(job.folder / JOB_FILE, change.yaml)
            if change.stars is not None or change.note is not None:
                must_have_folder(job)
                notes = job.notes
                stars = notes.stars if change.stars is None else change.stars
                note = notes.note if change.note is None else change.note
                write_notes(job.folder, replace(notes, stars=stars, note=note))
            if change.gpu is not None:
                self._put(job, gpu=change.gpu)
            self.registry.refresh(job)
        return job

    def start(self, job: Job, request: ActionRequest) -> None:
        """Put a job into the queue; it starts when its card is free and it fits.

        Raises:
            Refusal: it runs already, or cannot be started from here.
        """
        arguments = ["--accept-config-change"] if request.accept else []
        if request.checkpoint is not None:
            _must_be_valid(job, request.checkpoint)
            arguments += ["--from-step", str(request.checkpoint)]
        with self.registry.lock:
            must_rest(self.registry, job, "The job is already running.")
            text = self.folders.own_text(job)
            if request.steps is not None:
                text = edited(text, {"train.steps": request.steps})
            require_inside(parsed(self.texts, text), self.roots)
            if not (job.folder / JOB_FILE).exists() or request.steps is not None:
                write_text(job.folder / JOB_FILE, text)
            self._enqueue(job, arguments)

    def stop(self, job: Job) -> None:
        """Let its run save and end; take it out of the queue if it waits."""
        with self.registry.lock:
            see(self.registry, job)
            if job.is_live:
                self._ask_to_stop(job)
                self._put(job, wish="stop", place="")
            elif job.state in ("queued", "paused"):
                self._put(job, place="")
            else:
                raise Refusal(409, f"There is nothing to stop. {job.reason}")
            self.registry.refresh(job)
        self.kick()

    def pause(self, job: Job) -> None:
        """As `stop`, and keep its place in the queue."""
        with self.registry.lock:
            see(self.registry, job)
            if job.is_live:
                must_have_folder(job)
                self._ask_to_stop(job)
                entry = self.store.entry(job.id)
                place = entry.position if entry is not None and entry.position else self.store.place_last()
                self._put(job, wish="pause", place="paused", position=place)
            elif job.state == "queued":
                self._put(job, place="paused")
            else:
                raise Refusal(409, f"There is nothing to pause. {job.reason}")
            self.registry.refresh(job)
        self.kick()

    def kill(self, job: Job) -> None:
        """End its process at once. What was done since the last checkpoint is lost."""
        with self.registry.lock:
            see(self.registry, job)
            end_at_once(job, self.kick)
            self._put(job, wish="kill", place="")
            self.registry.refresh(job)

    def tell(self, job: Job, command: Command) -> None:
        """Let its run save or draw samples now."""
        with self.registry.lock:
            see(self.registry, job)
            if not job.is_live:
                raise Refusal(409, f"The job is not running. {job.reason}")
            ask(job, command)

    def clone(self, job: Job, name: str | None) -> Job:
        """A new draft with the same text under another name."""
        text = self.folders.own_text(job)
        names = [name] if name else [f"{job.settings.name or job.folder.name}_{n}" for n in range(2, MOST_COPIES)]
        key = name_key(parsed(self.texts, text))
        for candidate in names:
            copy = edited(text, {key: candidate})
            if name or not self.folders.folder_of(copy).exists():
                return self.make(JobRequest(yaml=copy), origin=job.id)
        raise Refusal(409, "There are too many copies of this job. Give the copy a name.", "name")

    def star(self, job: Job, name: str, is_starred: bool) -> None:
        """Mark a sample as one of the best, or not."""
        with self.registry.lock:
            must_have_folder(job)
            names = [other for other in job.notes.starred if other != name] + [name] * is_starred
            write_notes(job.folder, replace(job.notes, starred=tuple(names)))
            self.registry.refresh(job)

    def order(self, order: dict[str, list[str]]) -> None:
        """Give waiting jobs another order, and their cards.

        Args:
            order: ids of waiting jobs by card; `any` or `cpu` for those that take the first that is free.
        """
        with self.registry.lock:
            entries = self.store.entries()
            for slot, ids in order.items():
                gpu = None if slot in NO_CARD else int(slot)
                for id_ in ids:
                    entry = entries.get(id_)
                    if entry is not None and entry.place and entry.gpu != gpu:
                        self.store.put(replace(entry, gpu=gpu))
            self.store.order([id_ for ids in order.values() for id_ in ids])
            for id_, entry in self.store.entries().items():
                if entry.place and entries.get(id_) != entry:
                    with contextlib.suppress(Refusal):  # its folder is gone
                        self.registry.refresh(self.registry.get(id_))

    def _ask_to_stop(self, job: Job) -> None:
        """Once: a second signal ends a run at once, and a second command may be found by the next run."""
        if job.state != "stopping":
            ask(job, "stop")

    def _enqueue(self, job: Job, arguments: list[str] | None = None) -> None:
        entry = self.store.entry(job.id)
        keeps = entry is not None and entry.place in ("queued", "paused") and entry.position
        position = entry.position if entry is not None and keeps else self.store.place_last()
        job.trouble = ""
        self.store.put(
            replace(
                entry or Entry(job.id, job.folder),
                place="queued",
                position=position,
                arguments=tuple(arguments or ()),
                wish="",
                wished=time.time(),
                start=token_of(job.launch),
            )
        )
        self.registry.refresh(job)
        self.kick()

    def _put(
        self,
        job: Job,
        *,
        place: Place | None = None,
        gpu: int | None = None,
        wish: Wish | None = None,
        position: float | None = None,
    ) -> None:
        entry = self.store.entry(job.id) or Entry(job.id, job.folder)
        given: dict[str, Any] = {"place": place, "gpu": gpu, "wish": wish, "position": position}
        if wish is not None:
            given |= {"wished": time.time(), "start": job.last_start}
        self.store.put(replace(entry, **{name: value for name, value in given.items() if value is not None}))


def _must_be_valid(job: Job, step: int) -> None:
    place = next((folder for folder in step_folders(job.folder) if int(folder.name) == step), None)
    if place is None:
        raise Refusal(404, f"There is no checkpoint at step {step}.", "checkpoint")
    try:
        bundle = read_bundle(place)
    except BrokenBundle as broken:
        raise Refusal(409, f"The checkpoint at step {step} can't be used: {broken}.", "checkpoint") from broken
    if not bundle.has_state:
        what = f"Only the weights were kept at step {step}, not the training state, so a run can't resume from there."
        raise Refusal(409, what, "checkpoint")
