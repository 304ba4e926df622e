"""Notices to people, and the webhook that carries them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ui.server.schemas.base import Answer

Occasion = Literal["done", "failed", "needs"]
WebhookKind = Literal["json", "ntfy", "discord", "slack"]
OCCASIONS: tuple[Occasion, ...] = ("done", "failed", "needs")


class Notice(Answer):
    """A message to people, shown once."""

    id: str = Field(description="The same event has the same one in every tab and after a restart of the server.")
    occasion: Occasion = Field(description="`needs`: it does not go on without somebody.")
    job_id: str | None = Field(description="None: it is about the machine or the webhook.")
    title: str
    text: str
    time: float = Field(description="When it happened, in seconds since 1970.")


class NoticeList(Answer):
    """`GET /api/notices`."""

    notices: list[Notice] = Field(description="Of the last hours, the newest first.")
    webhook_problem: str | None = Field(description="Why the last message could not be delivered; null if it was.")


class WebhookAnswer(Answer):
    """`POST /api/settings/webhook/test`: what the other side said."""

    is_accepted: bool
    said: str = Field(description="Status and text of the answer, or why there was none.")
