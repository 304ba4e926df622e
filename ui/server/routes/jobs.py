"""Jobs: listed, made, changed, started and stopped."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from ui.server.jobs.job import Job
from ui.server.jobs.scheduler import PAUSED
from ui.server.refusal import Refusal
from ui.server.schemas import (
    NO_CARD,
    Action,
    ActionRequest,
    JobChange,
    JobDetail,
    JobId,
    JobList,
    JobRequest,
    JobState,
    Queue,
)
from ui.server.services import Here, Services
from ui.server.views.detail import detail_of

router = APIRouter(prefix="/api", tags=["jobs"])
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Of a job.")]


@router.get("/jobs")
def list_jobs(
    here: Here,
    state: Annotated[JobState | None, Query()] = None,
    q: Annotated[str, Query(max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> JobList:
    """Jobs, the newest first."""
    rows = [row for row in here.registry.rows() if state is None or row.state == state]
    if q:
        wanted = q.casefold()
        rows = [row for row in rows if wanted in f"{row.name} {row.arch} {row.dataset} {row.note}".casefold()]
    is_paused = here.store.fact(PAUSED) == "1"
    return JobList(jobs=rows[offset : offset + limit], total=len(rows), is_queue_paused=is_paused)


@router.post("/jobs")
def make_job(here: Here, body: JobRequest) -> JobId:
    """A new job: a draft, or with `start` one that waits for its turn."""
    return JobId(id=here.actions.make(body).id)


@router.get("/jobs/{id}")
def read_job(here: Here, id: Id) -> JobDetail:  # noqa: A002
    """A job."""
    return _detail(here, here.registry.get(id))


@router.put("/jobs/{id}")
def change_job(here: Here, id: Id, body: JobChange) -> JobDetail:  # noqa: A002
    """Change a job; what is left out stays."""
    return _detail(here, here.actions.change(here.registry.get(id), body))


@router.delete("/jobs/{id}")
def delete_job(here: Here, id: Id) -> JobId:  # noqa: A002
    """Move a job to the trash of its root."""
    here.trash.delete(here.registry.get(id))
    return JobId(id=id)


@router.post("/jobs/{id}/{action}")
def act(here: Here, id: Id, action: Action, body: ActionRequest) -> JobId:  # noqa: A002
    """Start a job, stop it, and so on."""
    job, actions = here.registry.get(id), here.actions
    if action == "clone":
        return JobId(id=actions.clone(job, body.name).id)
    if action in ("start", "resume"):
        actions.start(job, body)
    elif action == "stop":
        actions.stop(job)
    elif action == "pause":
        actions.pause(job)
    elif action == "kill":
        actions.kill(job)
    elif action in ("save", "sample"):
        actions.tell(job, action)
    return JobId(id=job.id)


@router.get("/queue")
def read_queue(here: Here) -> Queue:
    """The order of waiting jobs, by card."""
    order: dict[str, list[str]] = {}
    free = NO_CARD[0] if here.cards.all() else NO_CARD[1]
    known = {job.id for job in here.registry.all()}  # a folder that was deleted outside waits for nothing
    for entry in here.store.entries().values():
        if entry.place and entry.id in known:
            order.setdefault(free if entry.gpu is None else str(entry.gpu), []).append(entry.id)
    return Queue(order=order, is_paused=here.store.fact(PAUSED) == "1")


@router.put("/queue")
def change_queue(here: Here, body: Queue) -> Queue:
    """Another order, another card, and whether jobs are started at all."""
    for slot in body.order:
        if slot not in NO_CARD and not (slot.isascii() and slot.isdecimal() and len(slot) <= 3):
            raise Refusal(422, f'"{slot}" is not a GPU. Give its number, or any.', "order")
    here.actions.order(body.order)
    if body.is_paused is not None:
        here.store.set_fact(PAUSED, "1" if body.is_paused else "")
    here.scheduler.kick()
    return read_queue(here)


def _detail(here: Services, job: Job) -> JobDetail:
    here.registry.refresh(job)
    return detail_of(job, here.registry.row(job))
