"""Notices to people, kept in the index: none is sent twice, and what could not be sent is tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import ValidationError

from ui.server.notices.webhook import Reply, Webhook, send
from ui.server.schemas import Answer, Notice
from ui.server.store import Store

FRESH_S = 6 * 3600.0
_PROBLEM = "notices.problem"
_PREFIX = "notices/"
_KEPT_S = 30 * 86_400.0
_PAUSES_S = (10.0, 60.0, 600.0)


class _Entry(Answer):
    """The last notice about one subject.

    `sending` is written before the call is made: a server that is killed meanwhile cannot know whether it arrived,
    and does not send it twice.
    """

    notice: Notice
    state: Literal["waiting", "sending", "over"]
    tries: int = 0
    due: float = 0.0


class Outbox:
    """One message for each job, drive and so on: the last.

    Attributes:
        pauses_s: seconds before each further try.
    """

    def __init__(self, store: Store, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self.store = store
        self.pauses_s = pauses_s
        self._entries: dict[str, _Entry] | None = None
        self._lock = threading.Lock()

    def add(self, subject: str, notice: Notice, *, is_sent: bool) -> bool:
        """Remember a message. Returns whether it is new.

        Args:
            subject: what it is about; a message replaces the former one about the same.
            notice: the message.
            is_sent: it goes to the webhook.
        """
        known = self._all().get(subject)
        if known is not None and known.notice.id == notice.id:
            return False
        self._put(subject, _Entry(notice=notice, state="waiting" if is_sent else "over"))
        return True

    def forget(self, subject: str) -> None:
        """Send the next message about this, even if it is the same."""
        if self._all().pop(subject, None) is not None:
            self.store.set_fact(_PREFIX + subject, "")

    def recent(self) -> list[Notice]:
        """The notices of the last hours, the newest first."""
        since = time.time() - FRESH_S
        notices = (entry.notice for entry in list(self._all().values()) if entry.notice.time >= since)
        return sorted(notices, key=lambda it: (-it.time, it.id))

    @property
    def problem(self) -> str | None:
        """Why the last message could not be delivered; None if it was, or if the webhook was changed since."""
        return self.store.fact(_PROBLEM) or None

    @problem.setter
    def problem(self, reason: str | None) -> None:
        self.store.set_fact(_PROBLEM, reason or "")

    def deliver(self, find_webhook: Callable[[], Webhook | None], failed: Callable[[str], None]) -> None:
        """Send what is due. Without a webhook what waits is over.

        Args:
            find_webhook: gives where to.
            failed: called with the reason if a message could not be delivered and the one before it could.
        """
        now = time.time()
        due = {key: it for key, it in self._all().items() if it.state == "waiting" and it.due <= now}
        webhook = find_webhook() if due else None
        for subject, entry in due.items():
            if webhook is None or entry.notice.time < now - FRESH_S:
                self._put(subject, entry.model_copy(update={"state": "over"}))
                continue
            self._put(subject, entry.model_copy(update={"state": "sending"}))
            self._settle(subject, entry, send(webhook, entry.notice), failed)

    def _settle(self, subject: str, entry: _Entry, reply: Reply, failed: Callable[[str], None]) -> None:
        is_over = reply.is_accepted or not reply.can_retry or entry.tries >= len(self.pauses_s)
        due = 0.0 if is_over else time.time() + self.pauses_s[entry.tries]
        state = "over" if is_over else "waiting"
        self._put(subject, entry.model_copy(update={"state": state, "tries": entry.tries + 1, "due": due}))
        if reply.is_accepted:
            self.problem = None
            return
        is_first = self.problem is None
        self.problem = reply.said
        if is_first:
            failed(reply.said)

    def _all(self) -> dict[str, _Entry]:
        with self._lock:
            if self._entries is None:
                self._entries = dict(self._kept())
            return self._entries

    def _kept(self) -> Iterator[tuple[str, _Entry]]:
        for key, text in self.store.facts(_PREFIX).items():
            entry = _read(text)
            if entry is None or entry.notice.time < time.time() - _KEPT_S:
                self.store.set_fact(key, "")
            else:
                yield key.removeprefix(_PREFIX), entry

    def _put(self, subject: str, entry: _Entry) -> None:
        self.store.set_fact(_PREFIX + subject, entry.model_dump_json())
        self._all()[subject] = entry


def _read(text: str) -> _Entry | None:
    """An entry as it was kept; None if another version wrote it, or its call was under way when the server ended."""
    try:
        entry = _Entry.model_validate_json(text)
    except ValidationError:
        return None
    return entry.model_copy(update={"state": "over"}) if entry.state == "sending" else entry
