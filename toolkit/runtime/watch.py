"""Looks after a run from a thread of its own: obeys commands in every stage, and notes how much memory is in use."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from toolkit.output.events import append_event
from toolkit.runtime.control import ControlFolder
from toolkit.runtime.stop import StopRequest

LOOK_EVERY_S = 0.5
MEMORY_EVERY_S = 10.0


class Watch:
    """A `with` block that is one run.

    Args:
        output_folder: of the run, which holds its lock.
        stop: is asked when somebody wants the run to stop, and is told what else they wish for.
        since_ns: when this start began, in nanoseconds since 1970; earlier commands were meant for an earlier one.
    """

    def __init__(self, output_folder: Path, stop: StopRequest, *, since_ns: int) -> None:
        self._events = output_folder / "events.jsonl"
        self._control = ControlFolder(output_folder)
        self._stop = stop
        self._since_ns = since_ns
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def __enter__(self) -> Self:
        self._control.clear(before_ns=self._since_ns)
        self._stop.wishes.source = self.look
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._stop.wishes.source = lambda: None
        self._control.clear(before_ns=time.time_ns())

    def look(self) -> None:
        """Obey what has been asked for since the last look, by this thread or another."""
        for command in self._control.take():
            append_event(self._events, "control", command=command)
            if command == "stop":
                self._stop.ask()
            else:
                self._stop.wishes.add(command)

    def _run(self) -> None:
        measured_at = time.monotonic()
        while True:
            self.look()
            if time.monotonic() - measured_at >= MEMORY_EVERY_S:
                measured_at = time.monotonic()
                append_event(self._events, "memory", **memory_in_use())
            if self._ended.wait(LOOK_EVERY_S):
                return


def memory_in_use() -> dict[str, int | None]:
    """What this process holds now: `ram_bytes`; `gpu_bytes` of tensors and `gpu_reserved_bytes`, None without a card.

    Asks torch only where it has been loaded, and has begun to use a card.
    """
    torch: Any = sys.modules.get("torch")
    cuda: Any = getattr(torch, "cuda", None)  # None while torch is being imported
    has_card = cuda is not None and cuda.is_initialized()
    return {
        "ram_bytes": psutil.Process().memory_info().rss,
        "gpu_bytes": cuda.memory_allocated() if has_card else None,
        "gpu_reserved_bytes": cuda.memory_reserved() if has_card else None,
    }
