"""Learning rate schedules: functions of the step alone, so that resuming needs no state."""

from __future__ import annotations

import math

from toolkit.optimizers.schedule_choices import SCHEDULES

# A schedule maps progress after warm-up, 0..1, to a factor for the learning rate, 1..0.


def learning_rate(
    kind: str, step: int, *, lr: float, num_steps: int, warmup_steps: int = 0, min_lr: float = 0.0
) -> float:
    """The learning rate of one optimizer step.

    Args:
        kind: name of the schedule, a key of `SCHEDULES`.
        step: index of the update, 0 for the first.
        lr: peak learning rate.
        num_steps: number of updates in the whole run.
        warmup_steps: number of updates over which the rate rises linearly from lr / warmup_steps to lr.
        min_lr: learning rate at the end of a falling schedule.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return min_lr + (lr - min_lr) * SCHEDULES[kind].load()(min(1.0, progress))


def constant(progress: float) -> float:
    """The full rate throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """A straight line from 1 down to 0."""
    return 1 - progress
