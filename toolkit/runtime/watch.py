"""Watches a run from a thread of its own: takes commands in every stage, and logs how much memory is in use."""

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
    """Watches a run for the duration of a `with` block.

    Args:
        output_folder: the output folder of the run, which holds its lock.
        stop: receives requests to stop and all other commands.
        since_ns: when this start began, in nanoseconds since 1970; earlier commands were for an earlier start.
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
        self._stop.commands.source = self.look
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._stop.commands.source = lambda: None
        self._control.clear(before_ns=time.time_ns())

    def look(self) -> None:
        """Pass on the commands that have arrived since the last look. Any thread may call this."""
        for command in self._control.take():
            append_event(self._events, "control", command=command)
            if command == "stop":
                self._stop.ask()
            else:
                self._stop.commands.add(command)

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
    """Memory in use by this process: `ram_bytes`; `gpu_bytes` of tensors and `gpu_reserved_bytes`, None without a card.

    Of several cards, all are counted. Asks torch only if it is loaded and has used a card.
    """
    torch: Any = sys.modules.get("torch")
    cuda: Any = getattr(torch, "cuda", None)  # None while torch is being imported
    has_card = cuda is not None and cuda.is_initialized()
    cards = range(cuda.device_count()) if has_card else ()
    return {
        "ram_bytes": psutil.Process().memory_info().rss,
        "gpu_bytes": sum(map(cuda.memory_allocated, cards)) if has_card else None,
        "gpu_reserved_bytes": sum(map(cuda.memory_reserved, cards)) if has_card else None,
    }
