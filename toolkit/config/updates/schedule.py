"""The keys of `train` that say how the learning rate changes over the run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from toolkit.choice import ChoiceOf, params_of
from toolkit.config.remarks import KeyContext, Notice
from toolkit.optimizers.schedule_choices import SCHEDULES
from toolkit.optimizers.schedule_params import FallingParams, PiecewiseParams, ScheduleParams
from toolkit.section import Harmless, Section, Shown

LONGEST_WARMUP = 1000
_PARAMS = params_of("lr_scheduler", SCHEDULES)


def _unused(context: KeyContext) -> str | None:
    """A setting of the schedule that does nothing in this job."""
    train, params = context.section, context.value
    if params.min_lr and not isinstance(params, FallingParams):
        return f"`min_lr` has no effect here: `{train.lr_scheduler}` stays at `lr`"
    if isinstance(params, PiecewiseParams):
        late = [end for _, end in params.pieces if end is not None and end >= train.steps]
        if late:
            return f"`step_rules` has steps that the run never reaches: {late[0]:g}, and `steps` is {train.steps}"
    return None


class ScheduleConfig(Section):
    """The keys of `train` that say how the learning rate changes over the run."""

    lr_scheduler: Annotated[str, ChoiceOf(SCHEDULES), Shown(label="Learning rate schedule")] = Field(
        "constant", description="Learning rate schedule after warm-up. Counted in steps, independent of accumulation."
    )
    lr_scheduler_params: Annotated[ScheduleParams, _PARAMS, Notice(_unused), Shown(label="Learning rate schedule")] = (
        Field(_PARAMS.default, validate_default=True, description="Settings of the schedule.")
    )
    cooldown: Annotated[Harmless[float], Shown(label="Cool-down", level="expert")] = Field(
        0.0,
        ge=0,
        description="The end of the run, over which the learning rate falls linearly from the schedule's value to 0. "
        "Below 1: a share of `steps`; from 1 on: a number of steps. A finished or stopped run can be resumed with it: "
        "add its steps to those done.",
    )

    def warmup_of(self, steps: int) -> int:
        """Steps of a run of so many over which lr rises from 0."""
        if self.lr_scheduler_params.warmup_steps is not None:
            return self.lr_scheduler_params.warmup_steps
        return min(LONGEST_WARMUP, int(SCHEDULES[self.lr_scheduler].warmup_share * steps))

    def cooldown_of(self, steps: int) -> int:
        """Steps at the end of a run of so many over which lr falls to 0."""
        return round(self.cooldown * steps) if self.cooldown < 1 else int(self.cooldown)

    def mistake(self, *, steps: int, lr: float) -> str | None:
        """What is wrong with these settings in a run of so many steps; None if nothing is."""
        params, warmup, cooldown = self.lr_scheduler_params, self.warmup_of(steps), self.cooldown_of(steps)
        if params.min_lr > lr:
            return f"lr_scheduler_params.min_lr ({params.min_lr}) is above lr ({lr})"
        if self.cooldown >= 1 and not self.cooldown.is_integer():
            return f"cooldown ({self.cooldown}) is neither a share of the steps, below 1, nor a number of steps"
        if self.cooldown and not cooldown:
            return f"cooldown ({self.cooldown}) is less than one of {steps} steps"
        if self.cooldown and warmup + cooldown > steps:
            return (
                f"the cool-down of {cooldown} steps and the warm-up of {warmup} are longer than the run of {steps}: "
                "lower cooldown, or raise steps"
            )
        return None
