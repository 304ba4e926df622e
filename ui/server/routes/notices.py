"""Recent notices, and a test of the webhook."""

from __future__ import annotations

from fastapi import APIRouter

from ui.server.schemas import NoticeList, WebhookAnswer
from ui.server.services import Here

router = APIRouter(prefix="/api", tags=["notices"])


@router.get("/notices")
def notices(here: Here) -> NoticeList:
    """The notices of the last hours, and whether the webhook works."""
    outbox = here.notifier.outbox
    return NoticeList(notices=outbox.recent(), webhook_problem=outbox.problem)


@router.post("/settings/webhook/test")
def test_webhook(here: Here) -> WebhookAnswer:
    """Send a message to the webhook of the settings, and say what the other side answered."""
    return here.notifier.test()
