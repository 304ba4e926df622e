"""Makes what the next step needs on another thread while a step is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

R = TypeVar("R")


class Prefetch(Generic[R]):
    """What a function gives for the numbers of steps, one after the other. To be used in a `with` statement.

    Args:
        make: the function; what it gives depends on the number alone. It is never called for two numbers at a time.
        num_steps: the first number that nobody will ask for.
        prepare: called on the other thread before anything else.
    """

    def __init__(self, make: Callable[[int], R], *, num_steps: int, prepare: Callable[[], None] = lambda: None) -> None:
        self.make = make
        self.num_steps = num_steps
        self.prepare = prepare
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[R]] | None = None

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch", initializer=self.prepare)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def get(self, number: int) -> R:
        """What the function gives for a number, or raises; then the next is made."""
        assert self._pool is not None, "outside of its `with` statement"
        step, future = self._next or (-1, None)
        if future is None or step != number:
            future = self._pool.submit(self.make, number)
        found = future.result()
        self._next = None
        if number + 1 < self.num_steps:
            self._next = number + 1, self._pool.submit(self.make, number + 1)
        return found
