"""What must hold before a job is changed: it is there, and no run works in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from toolkit.output.lock import FolderInUse, RunLock
from ui.server.jobs.job import Job
from ui.server.jobs.registry import Registry
from ui.server.refusal import Refusal


def see(registry: Registry, job: Job) -> None:
    """Look at a job again.

    Raises:
        Refusal: its folder is gone, and no process works in it any more.
    """
    registry.refresh(job)
    if not job.lost and not job.folder.is_dir():
        raise Refusal(404, f"{job.folder} no longer exists. It was moved or deleted outside this page.")


def must_have_folder(job: Job) -> None:
    """Raises Refusal if what is written to the folder of a job would not end up in its folder."""
    if job.lost:
        raise Refusal(409, f"This job can't be changed now. {job.reason}")


def must_rest(registry: Registry, job: Job, what: str) -> None:
    """Raises Refusal, in the words of `what`, if a run works in the folder of a job."""
    see(registry, job)
    if job.is_live or job.state == "elsewhere":
        raise Refusal(409, f"{what} {job.reason}")


@contextlib.contextmanager
def alone(registry: Registry, job: Job, what: str) -> Iterator[None]:
    """Hold the folder, so that no run can begin in it meanwhile. Raises as `must_rest` does."""
    must_rest(registry, job, what)
    try:
        with RunLock(job.folder):
            yield
    except FolderInUse as error:
        raise Refusal(409, f"{what} ({error})") from error
