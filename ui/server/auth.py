"""Who may ask: the token of the printed address, the API token and the cookie that are made of it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import deque
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header, Request

from ui.server.refusal import Refusal

COOKIE = "flux2_trainer_files"
MIN_LISTEN_TOKEN = 32
_MOST_WRONG = 10
_PAUSE_S = 30.0


class Keys:
    """The keys of one installation. The cookie is made of the token, and never the other way round."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.api = _derived(token, "api")
        self.cookie = _derived(token, "files")
        self._wrong: deque[float] = deque(maxlen=_MOST_WRONG)
        self._lock = threading.Lock()

    def opens_api(self, given: str) -> bool:
        """Whether it is the token of the address or of a session."""
        return _equal(given, self.token) | _equal(given, self.api)

    def opens_files(self, cookie: str) -> bool:
        """Whether it is the cookie of a session."""
        return _equal(cookie, self.cookie)

    def note_wrong(self) -> None:
        """Count a wrong token.

        Raises:
            Refusal: there were too many recently.
        """
        now = time.monotonic()
        with self._lock:
            is_full = len(self._wrong) == _MOST_WRONG and now - self._wrong[0] < _PAUSE_S
            self._wrong.append(now)
        if is_full:
            raise Refusal(
                429, f"Too many incorrect tokens. Wait {_PAUSE_S:g} s, then use the address the server printed."
            )


def read_token(path: Path) -> str:
    """The token of this installation; made, for this user's eyes only, where there is none."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        token = ""
    if len(token) < MIN_LISTEN_TOKEN:
        token = secrets.token_urlsafe(32)
        write_secret(path, token)
    return token


def write_secret(path: Path, text: str) -> None:
    """A file that only this user can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # from its first byte on
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def keys_of(request: Request) -> Keys:
    """The keys that the app was made with."""
    keys = request.app.state.keys
    assert isinstance(keys, Keys)
    return keys


def require_token(
    keys: Annotated[Keys, Depends(keys_of)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """A dependency of everything under /api.

    Raises:
        Refusal: the request comes without the token.
    """
    if authorization is None:
        raise Refusal(401, "You are not signed in. Open the address the server printed, which ends in #token=...")
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not keys.opens_api(token.strip()):
        keys.note_wrong()
        raise Refusal(401, "Incorrect token. Open the address the server printed again.")


def require_cookie(
    request: Request,
    keys: Annotated[Keys, Depends(keys_of)],
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """A dependency of /files: pictures cannot send a header, so the cookie opens them, or the token.

    Raises:
        Refusal: the request has neither.
    """
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and request.method in ("GET", "HEAD") and keys.opens_files(cookie):
        return
    require_token(keys, authorization)


def _derived(token: str, use: str) -> str:
    return hmac.new(token.encode("utf-8", "replace"), f"flux2-trainer {use}".encode(), hashlib.sha256).hexdigest()


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
