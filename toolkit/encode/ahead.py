"""Loads, on other threads, what will be encoded next, so that the encoder need not wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from toolkit.encode.storage import MOST_AHEAD

T = TypeVar("T")
R = TypeVar("R")


class Ahead(Generic[T, R]):
    """Items that will be asked for in a known order are loaded before that; at most `MOST_AHEAD` wait at a time.

    Args:
        load: loads an item. It is called on other threads, and gives the same on any.
    """

    def __init__(self, load: Callable[[T], R]) -> None:
        self.load = load
        self._next: Iterator[tuple[str, T]] = iter(())
        self._loading: dict[str, Future[R]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def expect(self, items: Iterable[tuple[str, T]]) -> None:
        """From now on load these, each under a key of its own, in the order in which they will be taken."""
        self.close()
        self._next = iter(items)
        self._pool = ThreadPoolExecutor(min(MOST_AHEAD, os.cpu_count() or 1), thread_name_prefix="ahead")

    def take(self, key: str, item: T) -> R:
        """The loaded item, and whatever loading it raised. One that nobody expected is loaded now."""
        self._fill()
        future = self._loading.pop(key, None)
        if future is None:
            return self.load(item)
        self._fill()
        return future.result()

    def close(self) -> None:
        """Forget what was expected, and wait for what is being loaded."""
        self._next = iter(())
        self._loading.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _fill(self) -> None:
        while self._pool is not None and len(self._loading) < MOST_AHEAD:
            found = next(self._next, None)
            if found is None:
                self._pool.shutdown(wait=False)  # its threads end with what they have left
                self._pool = None
                return
            key, item = found
            self._loading[key] = self._pool.submit(self.load, item)
