"""The messages that open pages receive: a ring buffer, read by server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ui.server.schemas import Message

_KEPT, _KEPT_BYTES = 10_000, 16_000_000
_MOST_READERS = 256
_KEEP_ALIVE_S = 15.0
RETRY_MS = 1000


@dataclass(frozen=True)
class Sent:
    """One message of the ring."""

    number: int
    topic: str
    data: bytes


class Hub:
    """Takes messages from any thread, and hands them to every open page."""

    def __init__(self) -> None:
        self.boot = secrets.token_hex(4)
        self._ring: deque[Sent] = deque()
        self._num_bytes = 0
        self._number = 0
        self._lock = threading.Lock()
        self._wake: dict[int, Callable[[], None]] = {}
        self._is_closed = False

    @property
    def num_readers(self) -> int:
        """How many pages are open."""
        return len(self._wake)

    def publish(self, topic: str, message: Message) -> None:
        """Send a message. A topic is `jobs`, `machine`, `notices`, or `job:<id>`."""
        data = message.model_dump_json(exclude_none=True).encode("utf-8", "replace")
        with self._lock:
            self._number += 1
            if len(self._ring) == _KEPT:
                self._drop_oldest()
            self._ring.append(Sent(self._number, topic, data))
            self._num_bytes += len(data)
            while self._num_bytes > _KEPT_BYTES and len(self._ring) > 1:
                self._drop_oldest()
            wake = list(self._wake.values())
        for call in wake:
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                call()

    def close(self) -> None:
        """End every stream."""
        self._is_closed = True
        for call in list(self._wake.values()):
            with contextlib.suppress(RuntimeError):
                call()

    async def read(self, topics: frozenset[str], last_id: str | None) -> AsyncIterator[bytes]:
        """Server-sent events from the one after `last_id` on; a `reset` where that is unknown or too old.

        Args:
            topics: `jobs`, `machine`, `notices`, `job` for every job, or `job:<id>`; empty for all.
            last_id: the last that the page has got, `<boot>-<number>`.
        """
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        key = id(event)
        if len(self._wake) >= _MOST_READERS:
            return
        self._wake[key] = functools.partial(_wake, loop, event)
        try:
            seen = self._seen(last_id)
            yield f"retry: {RETRY_MS}\n\n".encode()
            if seen is None:
                with self._lock:
                    seen = self._number
                yield self._render(Sent(seen, "", Message(kind="reset").model_dump_json(exclude_none=True).encode()))
            while not self._is_closed:
                event.clear()
                with self._lock:
                    fresh = self._after(seen)
                    is_late = bool(self._ring) and seen + 1 < self._ring[0].number
                if is_late:
                    yield self._render(Sent(fresh[-1].number, "", b'{"kind":"reset"}'))
                    seen = fresh[-1].number
                    continue
                for sent in fresh:
                    if _is_wanted(sent.topic, topics):
                        yield self._render(sent)
                    seen = sent.number
                try:
                    await asyncio.wait_for(event.wait(), _KEEP_ALIVE_S)
                except TimeoutError:
                    yield b": here\n\n"
        finally:
            self._wake.pop(key, None)

    def _drop_oldest(self) -> None:
        self._num_bytes -= len(self._ring.popleft().data)

    def _after(self, seen: int) -> list[Sent]:
        fresh = []
        for sent in reversed(self._ring):
            if sent.number <= seen:
                break
            fresh.append(sent)
        return fresh[::-1]

    def _seen(self, last_id: str | None) -> int | None:
        boot, _, text = (last_id or "").partition("-")
        if boot != self.boot or not text.isdecimal() or len(text) > 18:
            return None
        number = int(text)
        with self._lock:
            oldest = self._ring[0].number if self._ring else self._number + 1
            return number if oldest - 1 <= number <= self._number else None

    def _render(self, sent: Sent) -> bytes:
        return b"id: %s-%d\ndata: %s\n\n" % (self.boot.encode(), sent.number, sent.data)


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


def _is_wanted(topic: str, topics: frozenset[str]) -> bool:
    return not topics or topic in topics or (topic.startswith("job:") and "job" in topics)
