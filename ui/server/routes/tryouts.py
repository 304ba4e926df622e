"""Trying out LoRAs: which there are, the job that draws with them, its grid, and keeping one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query

from ui.server.jobs.folders import job_id
from ui.server.routes.jobs import Id
from ui.server.schemas import Grid, KeepRequest, Kept, LoraList, TryoutDraft, TryoutRequest, TryoutStart
from ui.server.services import Here, Services
from ui.server.tryout.draft import draft_of, start_of
from ui.server.tryout.grid import grid_of
from ui.server.tryout.keep import keep

router = APIRouter(prefix="/api", tags=["tryouts"])


@router.get("/loras")
def loras(here: Here) -> LoraList:
    """Every LoRA file under the roots: checkpoints of runs, and others."""
    return here.loras.all()


@router.post("/loras/keep")
def keep_lora(here: Here, body: KeepRequest) -> Kept:
    """Copy a LoRA file under a name of one's choice; nothing is ever replaced."""
    return keep(body, _output(here), here.roots)


@router.get("/tryouts/start")
def start(
    here: Here,
    run: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "",
    arch: Annotated[str, Query(max_length=128)] = "",
) -> TryoutStart:
    """What a try-out begins with: the samples of a run, or a model."""
    return start_of(here.registry.get(run) if run else None, arch, _output(here))


@router.post("/tryouts")
def draft(here: Here, body: TryoutRequest) -> TryoutDraft:
    """The job of a try-out, to be checked and started like any other. Nothing is written."""
    job = here.registry.get(body.run) if body.run else None
    return draft_of(body, job, _output(here), here.actions)


@router.get("/jobs/{id}/grid")
def grid(here: Here, id: Id) -> Grid:  # noqa: A002
    """What a drawing job draws, with the pictures that are there."""

    def id_of(folder: Path) -> str | None:
        root = here.roots.root_of(folder)
        found = None if root is None or not folder.is_relative_to(root) else here.registry.find(job_id(root, folder))
        return None if found is None else found.id

    return grid_of(here.registry.get(id), id_of)


def _output(here: Services) -> Path:
    return Path(here.settings.read().training_folder)
