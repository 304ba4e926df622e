"""The page itself: the built front end, and whether the server is there."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ui.server.refusal import Refusal
from ui.server.services import services_of
from ui.server.web.dist import find_asset

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
def healthz() -> JSONResponse:
    """Open to all: says no more than that the server is there."""
    return JSONResponse({"ok": True})


@router.get("/{path:path}")
def page(request: Request, path: str) -> Response:
    """A file of the front end; anything else is a place within the page."""
    if path == "api" or path.startswith(("api/", "files/")):
        raise Refusal(404, "Not found.")
    return find_asset(services_of(request).options.dist, path, request.headers.get("if-none-match"))
