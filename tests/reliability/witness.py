"""What a run really computed, noted step by step where no kill can take it back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from toolkit.objectives.batch import Batch
from toolkit.train.step import Stepper, StepResult


def watch_steps(notes: Path) -> None:
    """From now on this process adds a line `<steps done before> <loss, every bit>` to `notes` after each step."""
    notes.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    train_step = Stepper.train_step

    def watched(self: Stepper, step: int, batches: Sequence[Batch], *, num_samples: int | None = None) -> StepResult:
        result = train_step(self, step, batches, num_samples=num_samples)
        os.write(handle, f"{step} {float(result.loss).hex()}\n".encode())
        return result

    Stepper.train_step = watched  # type: ignore[method-assign]


def read_notes(notes: Path) -> list[tuple[int, str]]:
    """The lines of one run, in order; none if it died before its first step."""
    if not notes.exists():
        return []
    pairs = (line.split() for line in notes.read_text(encoding="utf-8").splitlines())
    return [(int(step), loss) for step, loss in pairs]
