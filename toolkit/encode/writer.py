"""Writes on another thread, in order, while the next encoding is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from toolkit.encode.storage import MOST_AHEAD


class Writer:
    """One thread that writes; at most `MOST_AHEAD` writes wait, so that memory stays bounded.

    The thread is there only between the first `put` and `settle`.
    """

    def __init__(self) -> None:
        self._waiting: deque[Future[None]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def put(self, write: Callable[[], None]) -> None:
        """Write after everything that was put before; raises what an earlier write has raised."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        while len(self._waiting) >= MOST_AHEAD or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(write))

    def settle(self) -> None:
        """Wait until all is written; raises what the first failed write has raised."""
        pool, self._pool = self._pool, None
        waiting, self._waiting = self._waiting, deque()
        if pool is not None:
            pool.shutdown()
        for write in waiting:
            write.result()
