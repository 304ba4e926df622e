"""Reports how far a long wait has progressed, to the user at the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def said_every(seconds: float, what: str) -> Callable[[int, int], None]:
    """A function that is told how many are done, of how many, and prints a line every so many seconds.

    Args:
        seconds: how long to be silent; what takes less is not mentioned.
        what: what is counted, such as `images looked at`.
    """
    said_at = time.monotonic()

    def count(done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= seconds:
            said_at = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return count
