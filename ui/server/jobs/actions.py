"""What people do with jobs: make, change, start, stop, copy, resume from a checkpoint, and put away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from toolkit.files import move, write_text
from toolkit.output.bundles import BrokenBundle, read_bundle, set_aside, step_folders
from toolkit.output.lock import FolderInUse, RunLock
from toolkit.runtime.control import Command
from ui.server.jobs.control import ask, end_at_once
from ui.server.jobs.folders import JOB_FILE
from ui.server.jobs.job import Job
from ui.server.jobs.notes import new_notes, write_notes
from ui.server.jobs.registry import Registry
from ui.server.jobs.text import TextFolder, edited, name_key, output_folder, parsed, require_inside
from ui.server.refusal import Refusal
from ui.server.roots import TRASH
from ui.server.schemas import ActionRequest, Fix, JobChange, JobRequest, Problem
from ui.server.store import Entry, Place, Wish
from ui.server.words import clean

_MOST_COPIES = 1000


class Actions:
    """Changes jobs. Every method answers when the change is on disk; `kick` lets the scheduler look at the queue."""

    def __init__(self, registry: Registry, texts: TextFolder, kick: Callable[[], None]) -> None:
        self.registry = registry
        self.roots = registry.roots
        self.store = registry.store
        self.texts = texts
        self.kick = kick

    def make(self, request: JobRequest, *, origin: str = "") -> Job:
        """A new job in a folder of its own.

        Args:
            request: its text, and whether it starts at once.
            origin: id of the job that it is a copy of.

        Raises:
            Refusal: the text is none, names a path outside the roots, or a folder that is taken.
        """
        folder = self._place(request.yaml)
        with self.registry.lock:
            if folder.exists() and any(folder.iterdir()):
                raise Refusal(409, [self._taken(folder, request.yaml)])
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
                self._must_rest(job, "A running job can't be edited. Clone it, or stop it first.")
                folder = self._place(change.yaml)
                if folder != job.folder:
                    what = f"With this name, the output would go to {folder}. To use another name, clone the job."
                    raise Refusal(409, what, "config.name")
                write_text(job.folder / JOB_FILE, change.yaml)
            if change.stars is not None or change.note is not None:
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
            self._must_be_valid(job, request.checkpoint)
            arguments += ["--from-step", str(request.checkpoint)]
        with self.registry.lock:
            self._must_rest(job, "The job is already running.")
            text = self._own_text(job)
            if request.steps is not None:
                text = edited(text, {"train.steps": request.steps})
            require_inside(parsed(self.texts, text), self.roots)
            if not (job.folder / JOB_FILE).exists() or request.steps is not None:
                write_text(job.folder / JOB_FILE, text)
            self._enqueue(job, arguments)

    def stop(self, job: Job) -> None:
        """Let its run save and end; take it out of the queue if it waits."""
        with self.registry.lock:
            self._see(job)
            if job.is_live:
                self._ask_to_stop(job)
                self._put(job, wish="stop", wished=time.time(), place="")
            elif job.state in ("queued", "paused"):
                self._put(job, place="")
            else:
                raise Refusal(409, f"There is nothing to stop. {job.reason}")
            self.registry.refresh(job)
        self.kick()

    def pause(self, job: Job) -> None:
        """As `stop`, and keep its place in the queue."""
        with self.registry.lock:
            self._see(job)
            if job.is_live:
                self._ask_to_stop(job)
                entry = self.store.entry(job.id)
                place = entry.position if entry is not None and entry.position else self.store.place_last()
                self._put(job, wish="pause", wished=time.time(), place="paused", position=place)
            elif job.state == "queued":
                self._put(job, place="paused")
            else:
                raise Refusal(409, f"There is nothing to pause. {job.reason}")
            self.registry.refresh(job)
        self.kick()

    def kill(self, job: Job) -> None:
        """End its process at once. What was done since the last checkpoint is lost."""
        with self.registry.lock:
            self._see(job)
            end_at_once(job, self.kick)
            self._put(job, wish="kill", wished=time.time(), place="")
            self.registry.refresh(job)

    def tell(self, job: Job, command: Command) -> None:
        """Let its run save or draw samples now."""
        with self.registry.lock:
            self._see(job)
            if not job.is_live:
                raise Refusal(409, f"The job is not running. {job.reason}")
            ask(job, command)

    def clone(self, job: Job, name: str | None) -> Job:
        """A new draft with the same text under another name."""
        text = self._own_text(job)
        names = [name] if name else [f"{job.settings.name or job.folder.name}_{n}" for n in range(2, _MOST_COPIES)]
        key = name_key(parsed(self.texts, text))
        for candidate in names:
            copy = edited(text, {key: candidate})
            if name or not self._place(copy).exists():
                return self.make(JobRequest(yaml=copy), origin=job.id)
        raise Refusal(409, "There are too many copies of this job. Give the copy a name.", "name")

    def delete(self, job: Job) -> None:
        """Move its folder to the trash of its root.

        Raises:
            Refusal: a run works in it.
        """
        with self.registry.lock, self._alone(job, "A running job can't be deleted. Stop it first."):
            inner = next(
                (it for it in self.registry.all() if it.is_live and it.folder.is_relative_to(job.folder)), None
            )
            if inner is not None:
                raise Refusal(409, f"{inner.folder} is inside this folder and running. Stop that job first.")
            trash = job.root / TRASH
            target = trash / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}-{job.folder.name}"
            move(job.folder, target)
            self.registry.drop(job)

    def delete_checkpoint(self, job: Job, step: int) -> None:
        """Move a checkpoint with its weights to `superseded/`.

        Raises:
            Refusal: there is none of this step, or a run works in the folder.
        """
        place = next((folder for folder in step_folders(job.folder) if int(folder.name) == step), None)
        if place is None:
            raise Refusal(404, f"There is no checkpoint at step {step}.")
        with (
            self.registry.lock,
            self._alone(job, "Checkpoints can't be deleted while the job is running. Stop it first."),
        ):
            try:
                set_aside(job.folder, [read_bundle(place)])
            except BrokenBundle as broken:
                set_aside(job.folder, [broken])
            self.registry.refresh(job)

    def star(self, job: Job, name: str, is_starred: bool) -> None:
        """Mark a sample as one of the best, or not."""
        with self.registry.lock:
            names = [other for other in job.notes.starred if other != name] + [name] * is_starred
            write_notes(job.folder, replace(job.notes, starred=tuple(names)))
            self.registry.refresh(job)

    def order(self, order: dict[str, list[str]]) -> None:
        """Give waiting jobs another order, and their cards.

        Args:
            order: ids of waiting jobs by card; `cpu` for those that take the first that is free.
        """
        with self.registry.lock:
            entries = self.store.entries()
            for slot, ids in order.items():
                gpu = None if slot == "cpu" else int(slot)
                for id_ in ids:
                    entry = entries.get(id_)
                    if entry is not None and entry.place and entry.gpu != gpu:
                        self.store.put(replace(entry, gpu=gpu))
            self.store.order([id_ for ids in order.values() for id_ in ids])
            for id_, entry in self.store.entries().items():
                if entry.place and entries.get(id_) != entry:
                    with contextlib.suppress(Refusal):  # its folder is gone
                        self.registry.refresh(self.registry.get(id_))

    @contextlib.contextmanager
    def _alone(self, job: Job, what: str) -> Iterator[None]:
        """Hold the folder, so that no run can begin in it meanwhile."""
        self._must_rest(job, what)
        try:
            with RunLock(job.folder):
                yield
        except FolderInUse as error:
            raise Refusal(409, f"{what} ({error})") from error

    def _place(self, text: str) -> Path:
        tree = parsed(self.texts, text)
        folder = output_folder(tree, self.roots)
        require_inside(tree, self.roots)
        return folder

    def _taken(self, folder: Path, text: str) -> Problem:
        what = clean(f"{folder} is already in use. Give the job another name, or open the existing job.")
        names = (f"{folder.name}_{n}" for n in range(2, _MOST_COPIES))
        free = next((name for name in names if not folder.with_name(name).exists()), None)
        key = name_key(parsed(self.texts, text))
        fix = Fix(label=f"Rename to {clean(free)}", edits={key: clean(free)}) if free else None
        return Problem(severity="error", where="config.name", what=what, fix=fix)

    def _own_text(self, job: Job) -> str:
        path = job.text_path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Refusal(409, f"{job.folder} has no job file: neither {JOB_FILE} nor config.yaml.") from None
        if path.name != JOB_FILE:
            folder = self._place(text)
            if folder != job.folder:
                what = f"Started from here, its output would go to {folder}. Start it where it was started before."
                raise Refusal(409, what)
        return text

    def _must_be_valid(self, job: Job, step: int) -> None:
        place = next((folder for folder in step_folders(job.folder) if int(folder.name) == step), None)
        if place is None:
            raise Refusal(404, f"There is no checkpoint at step {step}.", "checkpoint")
        try:
            bundle = read_bundle(place)
        except BrokenBundle as broken:
            raise Refusal(409, f"The checkpoint at step {step} can't be used: {broken}.", "checkpoint") from broken
        if not bundle.has_state:
            what = (
                f"Only the weights were kept at step {step}, not the training state, so a run can't resume from there."
            )
            raise Refusal(409, what, "checkpoint")

    def _ask_to_stop(self, job: Job) -> None:
        """Once: a second signal ends a run at once, and a second command may be found by the next run."""
        if job.state != "stopping":
            ask(job, "stop")

    def _see(self, job: Job) -> None:
        if not job.folder.is_dir():
            raise Refusal(404, f"{job.folder} no longer exists. It was moved or deleted outside this page.")
        self.registry.refresh(job)

    def _must_rest(self, job: Job, what: str) -> None:
        self._see(job)
        if job.is_live or job.state == "elsewhere":
            raise Refusal(409, f"{what} {job.reason}")

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
        wished: float | None = None,
        position: float | None = None,
    ) -> None:
        entry = self.store.entry(job.id) or Entry(job.id, job.folder)
        given = {"place": place, "gpu": gpu, "wish": wish, "wished": wished, "position": position}
        self.store.put(replace(entry, **{name: value for name, value in given.items() if value is not None}))  # type: ignore[arg-type]
