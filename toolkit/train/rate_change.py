"""How the learning rate changes when a run is resumed with another schedule, length or cool-down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from toolkit.config import TrainConfig
from toolkit.optimizers.schedule_params import FallingParams
from toolkit.optimizers.schedules import Schedule, schedule_of

_SAME = 1e-9  # relative


def describe_rate_change(before: Mapping[str, Any], now: Mapping[str, Any], step: int) -> list[str]:
    """Lines for the user: a jump of the rate at the step that a run resumes from, and how to avoid it.

    Args:
        before, now: dumped `train` sections of the run so far and of this start.
        step: number of updates done.
    """
    old, new = _schedule(before), _schedule(now)
    if old is None or new is None or step >= new.num_steps:
        return []
    lines = []
    if new.cooldown_steps and step > new.cooldown_start and old.cooldown_steps != new.cooldown_steps:
        lines.append(
            f"the cool-down should have begun at step {new.cooldown_start}, before this checkpoint: to begin it here, "
            f"set train.cooldown: {new.num_steps - step}"
        )
    was, is_now = old(step), new(step)
    if abs(was - is_now) <= _SAME * max(was, is_now):
        return lines
    change = f"the learning rate of the next step was going to be {was:.3g} and is now {is_now:.3g}"
    lines.append(change + _remedy(old, new, step))
    return lines


def _remedy(old: Schedule, new: Schedule, step: int) -> str:
    """How to keep the rate, if only the length of a falling schedule has changed it."""
    if new.params.length is not None or not isinstance(new.params, FallingParams):
        return ""
    length = old.params.length or old.num_steps
    kept = replace(new, params=new.params.model_copy(update={"num_steps": length}))
    return f": to keep it, set train.lr_scheduler_params.num_steps: {length}" if kept(step) == old(step) else ""


def _schedule(train: Mapping[str, Any]) -> Schedule | None:
    """The schedule of a dump; None of one that this version cannot read."""
    keys = ("lr", "steps", "lr_scheduler", "lr_scheduler_params", "cooldown")
    try:
        return schedule_of(TrainConfig.model_validate({key: train[key] for key in keys if key in train}))
    except ValidationError:
        return None
