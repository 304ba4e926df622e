"""Keeps pages of other addresses away from the simple page where it serves this machine only."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.server.web.guard import is_from_here

_HERE = ("127.0.0.1", "localhost", "[::1]")


class LocalOnly:
    """A layer before Gradio, which looks at the origin of a request but not at the name that it asks for.

    A page whose name is made to mean this machine (DNS rebinding) would otherwise be let in.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            is_named = host in _HERE or host.rpartition(":")[0] in _HERE
            is_look = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
            if not is_named or not (is_look or is_from_here(headers, host)):
                answer = PlainTextResponse("This page serves http://127.0.0.1 only.", 403)
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)
