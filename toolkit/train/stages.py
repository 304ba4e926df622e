"""The stages of a run: a heading, the duration and the peak memory of each."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from toolkit.output.events import EventLog
from toolkit.runtime.devices import forget_peaks, peak_bytes
from toolkit.runtime.progress import Progress
from toolkit.units import duration, gigabytes

_POLL_S = 0.05
_PROGRESS_EVERY_S = 0.5
_SAID_EVERY_S = 10.0
_SPEED_OVER_S = 30.0


@dataclass(frozen=True)
class StageUse:
    """How much time and memory a stage took, the memory of tensors on each card."""

    name: str
    duration_s: float
    peak_ram_bytes: int
    card_peaks: Sequence[int]

    @property
    def peak_gpu_bytes(self) -> int:
        """Memory of the fullest card."""
        return max(self.card_peaks)


class Stages:
    """Runs the stages one after another and records the time and memory they took.

    Args:
        events: the event log, which also receives every line.
        progress: shows the lines to the user.
        redact: removes secrets from a line.
        predicted: stage name -> predicted peak of RAM and of tensors on the card, in bytes, from the memory plan.

    Attributes:
        current: name of the stage that started last.
    """

    def __init__(
        self,
        events: EventLog,
        progress: Progress,
        *,
        redact: Callable[[str], str] = str,
        predicted: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self.events = events
        self.redact = redact
        self.progress = progress
        self.predicted = predicted or {}
        self.uses: list[StageUse] = []
        self.current = ""
        self._counted_at = -math.inf
        self._said_at = -math.inf
        self._counts: deque[tuple[float, int]] = deque()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run the `with` block as one stage."""
        self.current = name
        self._counted_at = -math.inf
        self._counts.clear()
        self._said_at = time.monotonic()
        self.progress.message(f"\n== {name} ==")
        self.events.write("stage", name=name, state="started")
        has_gpu = torch.cuda.is_available()
        if has_gpu:
            forget_peaks()
        started = time.monotonic()
        with _peak_ram() as peak:
            yield
            gc.collect()
        use = StageUse(name, time.monotonic() - started, peak[0], peak_bytes() if has_gpu else [0])
        self.uses.append(use)
        ram, gpu = self.predicted.get(name, (0, 0))
        self.events.write(
            "stage",
            name=name,
            state="done",
            duration_s=round(use.duration_s, 2),
            peak_ram_bytes=use.peak_ram_bytes,
            peak_gpu_bytes=use.peak_gpu_bytes,
            predicted_ram_bytes=ram,
            predicted_gpu_bytes=gpu,
            **({"card_peaks": list(use.card_peaks)} if len(use.card_peaks) > 1 else {}),
        )

    def count(self, done: int, total: int, unit: str) -> None:
        """Report the progress of the current stage: to the log at most twice a second, to the user every ten seconds.

        The remaining time is that at the speed of the last half minute, since what was cached is skipped at once.

        Args:
            done: how many are done.
            total: how many there are in total.
            unit: what is counted, such as `images`.
        """
        now = time.monotonic()
        if now - self._counted_at >= _PROGRESS_EVERY_S:
            self._counted_at = now
            self._counts.append((now, done))
            while now - self._counts[0][0] > _SPEED_OVER_S:
                self._counts.popleft()
            then, before = self._counts[0]
            left_s = round((total - done) * (now - then) / (done - before)) if done > before else None
            self.events.write("progress", stage=self.current, done=done, total=total, unit=unit, left_s=left_s)
            if now - self._said_at >= _SAID_EVERY_S and left_s is not None:
                self._said_at = now
                self.progress.message(f"{self.current}: {done} of {total} {unit}, {duration(left_s)} left")

    def info(self, text: str) -> None:
        """Show a line to the user and log it."""
        self.progress.message(self.redact(text))
        self.events.write("message", text=self.redact(text))

    def warn(self, text: str) -> None:
        """Show a warning to the user and log it."""
        self.progress.message(f"warning: {self.redact(text)}")
        self.events.write("warning", text=self.redact(text))

    def report(self) -> list[str]:
        """One line per stage: its duration, and its peak memory next to the predicted one."""
        lines = []
        for use in self.uses:
            ram, gpu = self.predicted.get(use.name, (0, 0))
            line = f"{use.name:<14} {use.duration_s:7.1f} s, RAM peak {_beside([use.peak_ram_bytes], ram)}"
            lines.append(f"{line}, GPU peak {_beside(use.card_peaks, gpu)}" if use.peak_gpu_bytes else line)
        return lines


def _beside(measured: Sequence[int], predicted: int) -> str:
    shown = " + ".join(map(gigabytes, measured))
    return f"{shown} GB" + (f" ({gigabytes(predicted)} predicted)" if predicted else "")


@contextmanager
def _peak_ram() -> Iterator[list[int]]:
    """Yields a list whose only entry becomes, by the end of the block, the largest resident set size seen."""
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
