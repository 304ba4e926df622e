"""Captions by a model: the job that proposes them, and their review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query

from ui.server.captioning.draft import draft_of
from ui.server.captioning.review import Review, jobs_of
from ui.server.routes.datasets import Id as DatasetPlace
from ui.server.routes.jobs import Id
from ui.server.schemas import CaptionJobDraft, CaptionJobRequest, CaptionJobs, Decided, Decisions, Proposals
from ui.server.services import Here

router = APIRouter(prefix="/api", tags=["captioning"])


@router.post("/captioning")
def draft(here: Here, body: CaptionJobRequest) -> CaptionJobDraft:
    """The job that captions a dataset, to be checked and started like any other. Nothing is written."""
    return draft_of(body, here.library.get(body.dataset), Path(here.settings.read().training_folder), here.actions)


@router.get("/datasets/{id}/proposals")
def jobs_with_proposals(here: Here, id: DatasetPlace) -> CaptionJobs:  # noqa: A002
    """The jobs that have open proposals for the pictures of a dataset."""
    return CaptionJobs(jobs=jobs_of(here.library.get(id).folder, here.registry.all(), here.library))


@router.get("/jobs/{id}/proposals")
def proposals(
    here: Here,
    id: Id,  # noqa: A002
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Proposals:
    """Proposed captions that nobody has decided about."""
    return Review(here.registry.get(id), here.library).page(offset=offset, limit=limit)


@router.post("/jobs/{id}/proposals")
def decide(here: Here, id: Id, body: Decisions) -> Decided:  # noqa: A002
    """Accept proposals, skip them, or take that back."""
    return Review(here.registry.get(id), here.library).decide(body.decisions)
