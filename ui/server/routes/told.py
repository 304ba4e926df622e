"""What people were told of late, and a try of the webhook."""

from __future__ import annotations

from fastapi import APIRouter

from ui.server.schemas import ToldList, WebhookAnswer
from ui.server.services import Here

router = APIRouter(prefix="/api", tags=["told"])


@router.get("/told")
def told(here: Here) -> ToldList:
    """What people were told in the last hours, and whether the webhook works."""
    outbox = here.teller.outbox
    return ToldList(told=outbox.recent(), webhook_problem=outbox.problem)


@router.post("/settings/webhook/test")
def test_webhook(here: Here) -> WebhookAnswer:
    """Send a message to the webhook of the settings, and say what the other side answered."""
    return here.teller.test()
