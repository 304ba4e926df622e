"""What is new, as it happens: server-sent events."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from ui.server.refusal import Refusal
from ui.server.services import Here

router = APIRouter(prefix="/api", tags=["events"])
_TOPIC = re.compile(r"jobs|machine|notices|job|job:[0-9a-f]{16}")


@router.get("/events", response_class=StreamingResponse)
async def events(
    here: Here,
    topics: Annotated[str, Query(max_length=2000)] = "",
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> StreamingResponse:
    """Messages from the one after `Last-Event-ID`. Topics: `jobs`, `machine`, `notices`, `job`, `job:<id>`; or all."""
    wanted = frozenset(topic for topic in topics.split(",") if topic)
    if not all(_TOPIC.fullmatch(topic) for topic in wanted):
        raise Refusal(422, "Topics are jobs, machine, notices, job and job:<id>.", "topics")
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(here.hub.read(wanted, last_event_id), headers=headers, media_type="text/event-stream")
