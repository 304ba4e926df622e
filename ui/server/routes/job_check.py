"""Checks while someone types, and job texts made from other things."""

from __future__ import annotations

import asyncio
import os

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from toolkit.errors import UserError
from ui.server.checks.check_report import report_of, unchecked
from ui.server.checks.checker import CheckInputs
from ui.server.checks.estimate import estimate
from ui.server.checks.importing import import_job
from ui.server.jobs.text import outside
from ui.server.refusal import Refusal
from ui.server.schemas import CheckReport, CheckRequest, Imported, ImportRequest
from ui.server.services import Here, Services

router = APIRouter(prefix="/api", tags=["check"])
_AT_A_TIME = 2


@router.post("/check")
async def check(here: Here, request: Request, body: CheckRequest) -> CheckReport:
    """All that can be said about a job before it starts. A page that has asked again has closed its former request."""
    async with _room(request):
        if await request.is_disconnected():
            raise Refusal(409, "This check was replaced by a newer one.")
        return await run_in_threadpool(report, here, body)


@router.post("/import")
def import_something(here: Here, body: ImportRequest) -> Imported:
    """A job text made from a job file, a LoRA file or a sample picture."""
    return import_job(body, here.actions.texts)


def _room(request: Request) -> asyncio.Semaphore:
    state = request.app.state
    if not hasattr(state, "check_room"):
        state.check_room = asyncio.Semaphore(_AT_A_TIME)
    room = state.check_room
    assert isinstance(room, asyncio.Semaphore)
    return room


def report(here: Services, body: CheckRequest) -> CheckReport:
    """The answer to a check request. Blocks while the images are read."""
    try:
        tree = here.actions.texts.parse(body.yaml)
    except (UserError, RecursionError):
        tree = {}
    problems = outside(tree, here.roots, body.yaml)
    if problems:
        return unchecked(problems)
    found = here.checker.check(CheckInputs(body.yaml, body.vram_gb, body.resume))
    environment = {**os.environ, **here.settings.environment()}
    return report_of(found, estimate(found, here.registry.all()), tree, environment=environment)
