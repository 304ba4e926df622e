"""Learning rate schedules: functions of the step alone, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from toolkit.config import TrainConfig
from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.optimizers.schedule_params import (
    FallingParams,
    PiecewiseParams,
    PolynomialParams,
    RestartParams,
    ScheduleParams,
    StepParams,
)


@dataclass(frozen=True)
class Position:
    """Where a step is in its schedule. Steps are updates of the weights, counted from 0.

    Attributes:
        step: index of the update; not in the warm-up.
        num_steps: number of updates that the schedule is laid out for.
        warmup_steps: how many of them are the warm-up.
    """

    step: int
    num_steps: int
    warmup_steps: int = 0

    @property
    def progress(self) -> float:
        """Share of the steps after warm-up that are done, 0 to 1."""
        return min(1.0, (self.step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a job as a function of the step: warm-up, one of `SCHEDULES`, cool-down.

    Attributes:
        kind: a key of `SCHEDULES`.
        lr: peak learning rate.
        num_steps: number of updates in the whole run.
        params: the settings of its kind.
        warmup_steps: number of updates over which the rate rises linearly from lr / warmup_steps to lr.
        cooldown_steps: number of updates at the end of the run over which the rate falls linearly to 0, from the rate
            that the schedule has at the first of them.
    """

    kind: str
    lr: float
    num_steps: int
    params: ScheduleParams = field(default_factory=ScheduleParams)
    warmup_steps: int = 0
    cooldown_steps: int = 0

    @property
    def cooldown_start(self) -> int:
        """Index of the first update of the cool-down."""
        return self.num_steps - self.cooldown_steps

    def __call__(self, step: int) -> float:
        """The learning rate of update `step`, 0 for the first.

        Source of the cool-down: Hägele et al. 2024 (arXiv 2405.18392).
        """
        if step <= self.cooldown_start:
            return self._before_cooldown(step)
        left = max(0, self.num_steps - step) / max(1, self.cooldown_steps)
        return self._before_cooldown(self.cooldown_start) * left

    def _before_cooldown(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        at, row = Position(step, self.params.length or self.num_steps, self.warmup_steps), SCHEDULES[self.kind]
        factor, floor = float(row.load()(at, self.params)), self.params.min_lr
        return floor + (self.lr - floor) * factor if row.falls else max(floor, self.lr * factor)

    def describe(self) -> str:
        """One line for the plan; empty if the rate is always the same."""
        parts = [f"{self.kind}, {self.lr:g}"]
        if self.warmup_steps:
            parts.append(f"warm-up over {self.warmup_steps} steps")
        if self.params.length is not None:
            parts.append(f"laid out for {self.params.length} steps")
        if self.params.min_lr:
            parts.append(f"not below {self.params.min_lr:g}")
        if self.cooldown_steps:
            start = self.cooldown_start
            parts.append(
                f"cool-down from {self(start):.3g} to 0 over the last {self.cooldown_steps} (from step {start})"
            )
        is_constant = len(parts) == 1 and not isinstance(self.params, FallingParams)
        return "" if is_constant else "learning rate: " + ", ".join(parts)


def schedule_of(train: TrainConfig) -> Schedule:
    """The job's learning rate as a function of the number of updates done so far."""
    return Schedule(
        train.lr_scheduler,
        train.lr,
        train.steps,
        train.lr_scheduler_params,
        warmup_steps=train.warmup_steps,
        cooldown_steps=train.cooldown_steps,
    )


def constant(at: Position, params: ScheduleParams) -> float:
    """The full rate throughout."""
    return 1.0


def linear(at: Position, params: FallingParams) -> float:
    """A straight line from 1 down to 0."""
    return 1 - at.progress


def cosine(at: Position, params: FallingParams) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * at.progress))


def cosine_with_restarts(at: Position, params: RestartParams) -> float:
    """Half cosines of equal length from 1 to 0, at once back to 1 (arXiv 1608.03983, with T_mult = 1)."""
    if at.progress >= 1:
        return 0.0
    # In whole steps: a rounded share of the run would restart one step early or late.
    length = max(1, at.num_steps - at.warmup_steps)
    done = (at.step - at.warmup_steps) * params.num_cycles % length / length
    return 0.5 * (1 + math.cos(math.pi * done))


def polynomial(at: Position, params: PolynomialParams) -> float:
    """(1 - progress) ** power, from 1 to 0."""
    return float((1 - at.progress) ** params.power)


def rex(at: Position, params: FallingParams) -> float:
    """Reflected exponential: (1 - progress) / (1 - progress / 2), from 1 to 0 (Chen et al. 2021, arXiv 2107.04197)."""
    return (1 - at.progress) / (1 - at.progress / 2)


def step(at: Position, params: StepParams) -> float:
    """gamma ** (number of changes so far)."""
    size = params.step_size or max(1, math.ceil((at.num_steps - at.warmup_steps) / 3))
    return float(params.gamma ** ((at.step - at.warmup_steps) // size))


def piecewise(at: Position, params: PiecewiseParams) -> float:
    """The factor of the first piece that has not ended."""
    for factor, end in params.pieces:
        if end is None or at.step < (end if end >= 1 else round(end * at.num_steps)):
            return factor
    raise AssertionError("the last piece has no end")
