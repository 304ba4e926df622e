"""The wish to stop: the first signal asks the run to finish its step and save, the second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_FIRST = "\nStopping: the run finishes what it is doing and saves. Once more to stop at once, without saving.\n"


class StopRequest:
    """What a run polls between steps. Nothing but `listen` touches the process's signal handlers."""

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """True from the first request on."""
        return self._requested

    def request(self) -> None:
        """Ask the run to stop after its step.

        Raises:
            KeyboardInterrupt: it has been asked before.
        """
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into requests while the block runs. Only the main thread may do this."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request()
        # print() may not be entered twice, and the signal may have come in the middle of one
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _FIRST.encode())
