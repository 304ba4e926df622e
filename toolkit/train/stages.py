"""The stages of a run: a heading, the time, and the peak of memory of each."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from toolkit.events import EventLog
from toolkit.progress import Progress

_POLL_S = 0.05


@dataclass(frozen=True)
class StageUse:
    """What a stage took."""

    name: str
    duration_s: float
    peak_ram_bytes: int
    peak_gpu_bytes: int


class Stages:
    """Runs the stages one after another and remembers what they took.

    Args:
        events: gets every line, too.
        progress: shows them.
        redact: takes out of a line what nobody may see.
    """

    def __init__(self, events: EventLog, progress: Progress, *, redact: Callable[[str], str] = str) -> None:
        self.events = events
        self.redact = redact
        self.progress = progress
        self.uses: list[StageUse] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A `with` block that is one stage."""
        self.progress.message(f"\n== {name} ==")
        self.events.write("stage", name=name, state="started")
        has_gpu = torch.cuda.is_available()
        if has_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        with _peak_ram() as peak:
            yield
            gc.collect()
        use = StageUse(name, time.monotonic() - started, peak[0], torch.cuda.max_memory_allocated() if has_gpu else 0)
        self.uses.append(use)
        self.events.write(
            "stage",
            name=name,
            state="done",
            duration_s=round(use.duration_s, 2),
            peak_ram_bytes=use.peak_ram_bytes,
            peak_gpu_bytes=use.peak_gpu_bytes,
        )

    def tell(self, text: str) -> None:
        """A line for the user."""
        self.progress.message(self.redact(text))
        self.events.write("message", text=self.redact(text))

    def warn(self, text: str) -> None:
        """A line for the user that is also in the log as a warning."""
        self.progress.message(f"warning: {self.redact(text)}")
        self.events.write("warning", text=self.redact(text))

    def report(self) -> list[str]:
        """One line per stage: time and peak memory."""
        lines = []
        for use in self.uses:
            gpu = f", GPU peak {use.peak_gpu_bytes / 1e9:.2f} GB" if use.peak_gpu_bytes else ""
            lines.append(f"{use.name:<14} {use.duration_s:7.1f} s, RAM peak {use.peak_ram_bytes / 1e9:.2f} GB{gpu}")
        return lines


@contextmanager
def _peak_ram() -> Iterator[list[int]]:
    """Yields a list whose one entry is, at the end, the largest resident size seen."""
    process = psutil.Process()
    peak = [process.memory_info().rss]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True, name="peak-ram")
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
