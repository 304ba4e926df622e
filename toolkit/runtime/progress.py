"""The progress line of a run: step, loss, learning rate, speed, remaining time and memory."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import psutil
import torch
from tqdm import tqdm

from toolkit.runtime.devices import held_bytes
from toolkit.units import duration, gigabytes

_LIVE_EVERY_S = 0.25
_PLAIN_EVERY_S = 30.0
_SMOOTHING = 0.95  # averages over about the last 20 steps; single losses vary greatly with their timesteps


class Progress:
    """One line that is redrawn on a terminal, or printed now and then if the stream is not a terminal.

    tqdm draws it: the model libraries already depend on it, and their bars and ours do not disturb each other.
    """

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._is_live = self._stream.isatty()
        self._bar: tqdm[Any] | None = None

    def start(self, total: int, initial: int = 0) -> None:
        """Begin at step `initial` of `total`."""
        self._total = total
        self._step = initial
        self._loss = _Average()
        self._step_s = _Average()
        self._stepped_at = self._clock()
        self._shown_at = -math.inf
        if self._is_live:
            self._bar = tqdm(
                total=total,
                initial=initial,
                file=self._stream,
                dynamic_ncols=True,
                mininterval=0,
                miniters=1,
                bar_format="{percentage:3.0f}%|{bar:12}| {desc}",
            )

    def update(self, step: int, loss: float, lr: float, note: str = "") -> None:
        """Report that `step` steps are done. Call it after each step, or after several.

        Args:
            step: number of steps done since the beginning of training.
            loss: loss of the last step; the line shows a running average.
            lr: learning rate of the last step.
            note: a few words for the end of the line.
        """
        now = self._clock()
        if step > self._step:
            self._step_s.add((now - self._stepped_at) / (step - self._step))
        self._stepped_at = now
        self._loss.add(loss)
        self._step = step
        if now - self._shown_at >= (_LIVE_EVERY_S if self._is_live else _PLAIN_EVERY_S) or step >= self._total:
            self._shown_at = now
            self._show(self._line(lr, note))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the block from the time per step: a sample is generated or a checkpoint written."""
        before = self._clock()
        yield
        self._stepped_at += self._clock() - before

    def message(self, text: str) -> None:
        """Print a line above the progress line."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state of the line on screen. More messages may follow."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, line: str) -> None:
        if self._bar is None:
            print(line, file=self._stream, flush=True)
            return
        self._bar.n = self._step
        self._bar.set_description_str(line, refresh=False)
        self._bar.refresh()

    def _line(self, lr: float, note: str) -> str:
        step_s = self._step_s.value
        parts = [
            f"step {self._step}/{self._total}",
            f"loss {self._loss.value:.4f}",
            f"lr {lr:.2e}",
            f"{step_s:.2f} s/it",
            f"ETA {duration(step_s * (self._total - self._step))}",
            memory(),
        ]
        return "  ".join([*parts, note] if note else parts)


def memory() -> str:
    """The memory that this process uses now, in RAM and, if there is a GPU, on the GPU."""
    text = f"RAM {gigabytes(psutil.Process().memory_info().rss)} GB"
    if torch.cuda.is_available():
        text += f"  GPU {' + '.join(map(gigabytes, held_bytes()))} GB"
    return text


class _Average:
    """Exponential running average with bias correction, so that it is right from the first value on."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> None:
        self._sum = _SMOOTHING * self._sum + value
        self._weight = _SMOOTHING * self._weight + 1

    @property
    def value(self) -> float:
        return self._sum / self._weight if self._weight else 0.0
