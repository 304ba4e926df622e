"""What a request must be before it reaches a route: from here, by name, in JSON, and of a bearable size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": CSP,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
LARGEST_BODY = 2_500_000
LARGEST_IMPORT = 41_500_000
LARGEST_OF_STRANGERS = 10_000  # a token is all that they may send; the routes refuse the rest of it
_UPLOAD = re.compile(r"/api/datasets/[0-9a-f]{16}/(zip|files/[^/]+)")
_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """The outermost layer. It also gives every answer the headers that keep a browser from guessing."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], opens_api: Callable[[str], bool]) -> None:
        self.app = app
        self.opens_api = opens_api
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there are none: nothing to upgrade to
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(with_headers, *refusal)
            return
        if is_upload(scope["method"], scope["path"]) and self._is_known(headers):
            await self.app(scope, receive, _closing(with_headers))  # its route reads it piece by piece, within limits
            return
        limit = LARGEST_IMPORT if scope["path"] == "/api/import" else LARGEST_BODY
        if not self._is_known(headers):
            limit = LARGEST_OF_STRANGERS
        if scope["method"] in _SAFE:
            await self.app(scope, receive, with_headers)
            return
        body = await _read(receive, headers, limit)
        if body is None:
            await _answer(with_headers, 413, f"The request is larger than {limit / 1e6:.1f} MB.")
            return
        await self.app(scope, _replay(body, receive), with_headers)

    def _is_known(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.opens_api(token.strip())

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if host not in self.hosts and host.rpartition(":")[0] not in self.hosts:
            return (
                403,
                "This server is not known by that host name. To allow it, start the server with --host-name NAME.",
            )
        path, method = scope["path"], scope["method"]
        is_page = method in _SAFE and not path.startswith(("/api", "/files"))
        if not is_page and not is_from_here(headers, host):
            return 403, "The request was blocked because it came from another site."
        if method in ("POST", "PUT", "PATCH") or (method == "DELETE" and _has_body(headers)):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            wanted = "application/octet-stream" if is_upload(method, path) else "application/json"
            if kind != wanted:
                return 415, f"Send the request as {wanted}."
        if method not in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            return 405, "Method not allowed."
        return None


def is_from_here(headers: Headers, host: str) -> bool:
    """Whether a page of this server itself asks, or a program that is not a browser."""
    site = headers.get("sec-fetch-site")
    if site is not None and site.lower() not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host


def is_upload(method: str, path: str) -> bool:
    """Whether the body of a request is a file, which may be larger than this machine's memory."""
    return method == "PUT" and _UPLOAD.fullmatch(path) is not None


def _closing(send: Send) -> Send:
    """Close the connection with a refusal, so that its sender does not continue with what nobody reads."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            MutableHeaders(scope=message)["connection"] = "close"
        await send(message)

    return closing


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


async def _read(receive: Receive, headers: Headers, limit: int) -> bytes | None:
    """The whole body; None if it is larger than the limit."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def given() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


async def _answer(send: Send, status: int, what: str) -> None:
    problem = {"severity": "error", "where": "", "what": what}
    empty = {"line": None, "column": None, "suggestion": None, "fix": None}
    body = json.dumps({"problems": [problem | empty]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
