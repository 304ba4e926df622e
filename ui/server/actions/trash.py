"""What was put away: jobs in the trash of their root, checkpoints set aside in the folder of their job."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from toolkit.files import move
from toolkit.output.bundles import SET_ASIDE, BrokenBundle, read_bundle, set_aside, step_folders
from toolkit.output.lock import holder
from ui.server.actions.guards import alone
from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.refusal import Refusal
from ui.server.roots import TRASH
from ui.server.schemas import Aside, Trash
from ui.server.words import clean

KEPT_DAYS = 30
_NAME_LENGTH = len("20260131-235959")
_DAY_S = 24 * 3600.0


class TrashBin:
    """Puts jobs and checkpoints away, says how much room they take, and deletes them for good."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def delete(self, job: Job) -> None:
        """Move the folder of a job to the trash of its root.

        Raises:
            Refusal: a run works in it.
        """
        with self.registry.lock, alone(self.registry, job, "A running job can't be deleted. Stop it first."):
            inner = next(
                (it for it in self.registry.all() if it.is_live and it.folder.is_relative_to(job.folder)), None
            )
            if inner is not None:
                raise Refusal(409, f"{inner.folder} is inside this folder and running. Stop that job first.")
            move(job.folder, place_in_trash(job.root, job.folder.name))
            self.registry.drop(job)

    def delete_checkpoint(self, job: Job, step: int) -> None:
        """Move a checkpoint with its weights to `superseded/`.

        Raises:
            Refusal: there is none of this step, or a run works in the folder.
        """
        place = next((folder for folder in step_folders(job.folder) if int(folder.name) == step), None)
        if place is None:
            raise Refusal(404, f"There is no checkpoint at step {step}.")
        what = "Checkpoints can't be deleted while the job is running. Stop it first."
        with self.registry.lock, alone(self.registry, job, what):
            try:
                set_aside(job.folder, [read_bundle(place)])
            except BrokenBundle as broken:
                set_aside(job.folder, [broken])
            self.registry.refresh(job)

    def size(self) -> Trash:
        """How many deleted jobs there are, and the room that they take."""
        found = list(self._deleted())
        since = [_time_of(folder) for folder in found]
        return Trash(
            num_jobs=len(found),
            num_bytes=sum(map(num_bytes, found)),
            oldest=min((time_ for time_ in since if time_ is not None), default=None),
            days=KEPT_DAYS,
            folders=sorted({clean(str(folder.parent)) for folder in found}),
        )

    def empty(self, *, before: float | None = None) -> Trash:
        """Delete what is in the trash for good.

        Args:
            before: only what was put there before this time, in seconds since 1970.

        Raises:
            Refusal: some of it cannot be deleted; all else has been.
        """
        left: list[str] = []
        for folder in self._deleted():
            put_there = _time_of(folder)
            if before is not None and (put_there is None or put_there >= before):
                continue
            if _is_used(folder):
                left.append(f"{folder} is in use by a run")
                continue
            try:
                shutil.rmtree(folder)
            except OSError as error:
                left.append(f"{folder} can't be deleted ({error.strerror or error})")
        if left and before is None:
            raise Refusal(409, "; ".join(left[:5]) + ".")
        return self.size()

    def remove_old(self) -> None:
        """Delete what has been in the trash for `KEPT_DAYS` days."""
        self.empty(before=time.time() - KEPT_DAYS * _DAY_S)

    def empty_aside(self, job: Job) -> Aside:
        """Delete the checkpoints of a job that were set aside, for good.

        Raises:
            Refusal: a run works in the folder.
        """
        what = "Checkpoints that were set aside can't be deleted while the job is running. Stop it first."
        with self.registry.lock, alone(self.registry, job, what):
            for folder in _inside(job.folder / SET_ASIDE):
                shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # something that is no folder lies there, or there was nothing
                (job.folder / SET_ASIDE).rmdir()
        return aside_of(job)

    def _deleted(self) -> Iterator[Path]:
        for root in self.registry.roots.folders:
            yield from _inside(root / TRASH)


def place_in_trash(root: Path, name: str) -> Path:
    """Where something of this name is put when it is deleted; the place says when that was."""
    return root / TRASH / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}-{name}"


def aside_of(job: Job) -> Aside:
    """How many rounds of checkpoints of a job were set aside, and the room that they take."""
    found = list(_inside(job.folder / SET_ASIDE))
    return Aside(num_folders=len(found), num_bytes=sum(map(num_bytes, found)))


def num_bytes(folder: Path) -> int:
    """The bytes of all files in a folder; links are not followed."""
    total, waiting = 0, [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def _inside(folder: Path) -> Iterator[Path]:
    """The folders in a folder. One that is a link, no matter who made it, leads elsewhere: nothing in it is ours."""
    with contextlib.suppress(OSError):
        if not folder.is_symlink():
            yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _is_used(folder: Path) -> bool:
    """Whether a run works in it: its folder may have been moved here by hand."""
    found = holder(folder)
    return found is not None and not found.is_elsewhere


def _time_of(folder: Path) -> float | None:
    """When a folder was put into the trash, by its name; None if not by this page."""
    try:
        return time.mktime(time.strptime(folder.name[:_NAME_LENGTH], "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        return None
