"""One call of a webhook: what is sent to each kind of service, and what the other side said to it.

The address is a secret: nothing that is returned or raised here holds it, not even where the other side repeats it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from urllib.parse import SplitResult, unquote, urlsplit

from toolkit.version import VERSION
from ui.server.machine import hostname
from ui.server.notices.occasions import line_of
from ui.server.schemas import Notice, WebhookKind

TIMEOUT_S = 5.0
LONGEST_URL = 2000
_READ_BYTES = 4096
_SHORTEST_SECRET = 6  # of a part of the address: what is shorter is a word that any answer may hold
_PRIORITY = {"done": "3", "failed": "4", "needs": "4"}
_TAGS = {"done": "white_check_mark", "failed": "x", "needs": "warning"}


@dataclass(frozen=True)
class Webhook:
    """Where to send, and in which form. With the address nothing is wrong."""

    url: str
    kind: WebhookKind


@dataclass(frozen=True)
class Reply:
    """How a call went.

    Attributes:
        is_accepted: the other side took it.
        can_retry: it certainly has not taken it, but may take it later.
        said: in words, without the address.
    """

    is_accepted: bool
    can_retry: bool
    said: str


@dataclass(frozen=True)
class _Sent:
    body: bytes
    headers: dict[str, str]


def wrong_with(url: str) -> str | None:
    """What is wrong with the address of a webhook, without repeating it; None if nothing."""
    if len(url) > LONGEST_URL:
        return f"The address is longer than {LONGEST_URL} characters."
    if not url.isascii() or not url.isprintable() or " " in url:
        return "The address contains spaces or special characters. Copy it again, or spell them as %20."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "This is not an address. It looks like https://ntfy.sh/my-topic."
    if parts.scheme not in ("http", "https"):
        return "The address must begin with https:// or http://."
    if not host or port == 0:
        return "The address names no host. It looks like https://ntfy.sh/my-topic."
    if parts.fragment:
        return "The part after # is never sent. Remove it."
    return None


def send(webhook: Webhook, notice: Notice) -> Reply:
    """Send one message. Returns within seconds, whatever the other side does."""
    call = _Call(urlsplit(webhook.url), _MESSAGES[webhook.kind](notice))
    thread = threading.Thread(target=call.run, name="webhook", daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)  # a timeout of a socket begins again with each byte
    if thread.is_alive():
        call.abort()
        # what was sent may have been read: once more could be twice
        return Reply(False, not call.is_sent, f"There was no answer within {TIMEOUT_S:g} seconds.")
    assert call.reply is not None
    return call.reply


class _Call:
    """A request in a thread of its own."""

    def __init__(self, url: SplitResult, sent: _Sent) -> None:
        self.url = url
        self.sent = sent
        self.reply: Reply | None = None
        self.is_sent = False
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Carry it out, and keep the reply."""
        try:
            self.reply = self._ask()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.reply = Reply(False, not self.is_sent, _explained(error))
        except Exception as error:  # its text may hold the address
            self.reply = Reply(False, False, f"It could not be sent ({type(error).__name__}).")
        finally:
            if self._connection is not None:
                self._connection.close()

    def abort(self) -> None:
        """End it from another thread."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> Reply:
        url = self.url
        assert url.hostname is not None
        make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = self._connection = make(url.hostname, url.port, timeout=TIMEOUT_S)
        connection.connect()
        self.is_sent = True
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("POST", target, self.sent.body, self.sent.headers | _login(url))
        answer = connection.getresponse()
        return self._judged(answer.status, answer.read(_READ_BYTES))

    def _judged(self, status: int, body: bytes) -> Reply:
        text = self._without_secrets(line_of(body.decode("utf-8", "replace")))
        said = f"HTTP {status}: {text}" if text else f"HTTP {status}."
        if 200 <= status < 300:
            return Reply(True, False, said)
        if 300 <= status < 400:
            said += " It redirects to another address, and redirects are not followed: enter that address."
        return Reply(False, status == 429 or status >= 500, said)

    def _without_secrets(self, text: str) -> str:
        """What was answered, without the parts of the address that it may repeat."""
        url = self.url
        parts = [*url.path.split("/"), *url.query.replace("&", "=").split("="), url.username or "", url.password or ""]
        for part in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
            if len(part) >= _SHORTEST_SECRET:
                text = text.replace(part, "…")
        return text


def _login(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    given = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(given).decode('ascii')}"}


def _explained(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "There is no host of that name, or no network connection."
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Its certificate is not valid: {error.verify_message}."
    if isinstance(error, ssl.SSLError):
        return "It does not speak HTTPS as expected. Is the address http:// instead?"
    if isinstance(error, TimeoutError):
        return f"There was no answer within {TIMEOUT_S:g} seconds."
    if isinstance(error, OSError) and error.strerror:
        return f"It could not be reached: {error.strerror}."
    return "The other side is not a web server, or the connection was lost."


def _json(notice: Notice) -> _Sent:
    return _as_json(
        {
            "event": notice.occasion,
            "id": notice.id,
            "job_id": notice.job_id,
            "title": notice.title,
            "text": notice.text,
            "machine": hostname(),
            "time": datetime.fromtimestamp(notice.time, UTC).isoformat(timespec="seconds"),
        }
    )


def _ntfy(notice: Notice) -> _Sent:
    title = notice.title if notice.title.isascii() else Header(notice.title, "utf-8", maxlinelen=10_000).encode()
    headers = {"Title": title, "Priority": _PRIORITY[notice.occasion], "Tags": _TAGS[notice.occasion]}
    return _Sent(notice.text.encode(), {**_HEADERS, **headers, "Content-Type": "text/plain; charset=utf-8"})


def _discord(notice: Notice) -> _Sent:
    # names of jobs call nobody: without `parse` an "@everyone" in one would
    return _as_json({"content": f"**{notice.title}**\n{notice.text}", "allowed_mentions": {"parse": []}})


def _slack(notice: Notice) -> _Sent:
    text = f"*{notice.title}*\n{notice.text}"
    for sign, spelled in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, spelled)
    return _as_json({"text": text})


def _as_json(content: object) -> _Sent:
    return _Sent(json.dumps(content).encode(), {**_HEADERS, "Content-Type": "application/json"})


_HEADERS = {"User-Agent": f"flux2-trainer/{VERSION}"}
_MESSAGES: dict[WebhookKind, Callable[[Notice], _Sent]] = {
    "json": _json,
    "ntfy": _ntfy,
    "discord": _discord,
    "slack": _slack,
}
