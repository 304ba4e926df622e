"""What a page shows of one job: curves, log, samples, checkpoints, changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from ui.server.actions.trash import aside_of
from ui.server.jobs.files import find_file
from ui.server.refusal import Refusal
from ui.server.routes.jobs import Id
from ui.server.schemas import Aside, Checkpoints, Differences, JobId, LogPage, Metrics, Origins, Samples, Seen, Star
from ui.server.services import Here
from ui.server.views.checkpoints import checkpoints_of
from ui.server.views.diff import differences_of, origins_of
from ui.server.views.log import log_page
from ui.server.views.metrics import metrics_of
from ui.server.views.samples import samples_of

router = APIRouter(prefix="/api/jobs/{id}", tags=["jobs"])
Step = Annotated[int, Path(ge=0, lt=10**15)]


@router.get("/metrics")
def metrics(
    here: Here,
    id: Id,  # noqa: A002
    keys: Annotated[str, Query(max_length=4000, description="Names of curves, by commas; all without.")] = "",
    first: Annotated[int | None, Query(alias="from", ge=0, le=10**9)] = None,
    last: Annotated[int | None, Query(alias="to", ge=0, le=10**9)] = None,
    points: Annotated[int, Query(ge=2, le=4000)] = 1000,
) -> Metrics:
    """Curves, at most so many points each."""
    wanted = [key for key in keys.split(",") if key]
    return metrics_of(here.registry.get(id), wanted, first, last, points)


@router.get("/log")
def log(
    here: Here,
    id: Id,  # noqa: A002
    first: Annotated[int | None, Query(alias="from", ge=0, le=10**9, description="Line; the end without.")] = None,
    lines: Annotated[int, Query(ge=1, le=2000)] = 500,
    q: Annotated[str, Query(max_length=200, description="Text to look for.")] = "",
) -> LogPage:
    """Some lines of the log."""
    return log_page(here.registry.get(id), first, lines, q)


@router.get("/samples")
def samples(here: Here, id: Id) -> Samples:  # noqa: A002
    """The matrix of steps and prompts."""
    return samples_of(here.registry.get(id))


@router.put("/samples/{file}/star")
def star(here: Here, id: Id, file: Annotated[str, Path(pattern="^[0-9a-f]{16}-[0-9a-f]{16}$")], body: Star) -> JobId:  # noqa: A002
    """Mark a sample as one of the best, or not."""
    job = here.registry.get(id)
    here.actions.star(job, find_file(job, file).name, body.is_starred)
    return JobId(id=id)


@router.get("/seen")
def seen(
    here: Here,
    id: Id,  # noqa: A002
    step: Annotated[int, Query(ge=1, le=10**9)] = 1,
    picture: Annotated[str, Query(pattern="^([0-9a-f]{16}-[0-9a-f]{16})?$", description="File id.")] = "",
) -> Seen:
    """The pictures that a step trains on, and the steps that have trained on a picture."""
    return here.seen.of(here.registry.get(id), step, picture)


@router.get("/checkpoints")
def checkpoints(here: Here, id: Id) -> Checkpoints:  # noqa: A002
    """All checkpoints, the newest first."""
    return checkpoints_of(here.registry.get(id))


@router.delete("/checkpoints/{step}")
def delete_checkpoint(here: Here, id: Id, step: Step) -> JobId:  # noqa: A002
    """Move a checkpoint aside, with its weights."""
    here.trash.delete_checkpoint(here.registry.get(id), step)
    return JobId(id=id)


@router.get("/origins")
def origins(here: Here, id: Id) -> Origins:  # noqa: A002
    """The settings that a job has come from: of its last run, and of the job that it was cloned from."""
    job = here.registry.get(id)
    return origins_of(job, here.registry.find(job.notes.origin))


@router.get("/aside")
def aside(here: Here, id: Id) -> Aside:  # noqa: A002
    """How much room the checkpoints take that were set aside."""
    return aside_of(here.registry.get(id))


@router.delete("/aside")
def empty_aside(here: Here, id: Id) -> Aside:  # noqa: A002
    """Delete the checkpoints that were set aside, for good."""
    return here.trash.empty_aside(here.registry.get(id))


@router.get("/diff")
def diff(here: Here, id: Id, other: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "") -> Differences:  # noqa: A002
    """How the settings of a job differ from those of its last run, or of another job."""
    job = here.registry.get(id)
    if other == id:
        raise Refusal(422, "Choose another job to compare with.", "other")
    return differences_of(job, here.registry.get(other) if other else None, here.actions.texts)
