"""The way in: the token of the printed address for the cookie that opens pictures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ui.server.auth import COOKIE, keys_of
from ui.server.refusal import Refusal
from ui.server.schemas import Session, SessionRequest

router = APIRouter(tags=["session"])
YEAR_S = 365 * 24 * 3600


@router.post("/api/session")
def begin_session(body: SessionRequest, request: Request, response: Response) -> Session:
    """Trade the token of the printed address for a session. The only route of the API that needs no header."""
    keys = keys_of(request)
    if not keys.opens_api(body.token.strip()):
        keys.note_wrong()
        raise Refusal(401, "Incorrect token. Open the address the server printed again.", "token")
    response.set_cookie(
        COOKIE, keys.cookie, max_age=YEAR_S, path="/files", httponly=True, samesite="strict", secure=False
    )
    return Session(token=keys.api)
