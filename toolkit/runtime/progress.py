"""The live line of a run: where it is, how well it learns, how fast, and when it will be done."""

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

from toolkit.units import duration, gigabytes

_LIVE_EVERY_S = 0.25
_PLAIN_EVERY_S = 30.0
_SMOOTHING = 0.95  # the line shows about the last 20 steps; single losses jump with their timesteps


class Progress:
    """One line that is redrawn on a terminal, or printed now and then where there is none.

    tqdm draws it: it is there already (the model libraries use it), and their own bars do not tear ours.
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
        """Say that `step` steps are done. Call it after each step, or after several.

        Args:
            step: steps done since the beginning of training.
            loss: of the last step; the line shows a running average.
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
        """Do not count the block as training: a sample is drawn or a checkpoint written."""
        before = self._clock()
        yield
        self._stepped_at += self._clock() - before

    def message(self, text: str) -> None:
        """Print a line above the live one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state of the line standing. More messages may follow."""
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
    """What this process holds now, in RAM and, where there is a card, on the card."""
    text = f"RAM {gigabytes(psutil.Process().memory_info().rss)} GB"
    if torch.cuda.is_available():
        text += f"  GPU {gigabytes(torch.cuda.memory_reserved())} GB"
    return text


class _Average:
    """Running average that is right from the first value on."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> None:
        self._sum = _SMOOTHING * self._sum + value
        self._weight = _SMOOTHING * self._weight + 1

    @property
    def value(self) -> float:
        return self._sum / self._weight if self._weight else 0.0
