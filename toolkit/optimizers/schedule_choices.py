"""The learning rate schedules that a job can choose: one row each, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice
from toolkit.optimizers.schedule_params import (
    FallingParams,
    PiecewiseParams,
    PolynomialParams,
    RestartParams,
    ScheduleParams,
    StepParams,
)


@dataclass(frozen=True, kw_only=True)
class ScheduleChoice(Choice):
    """A function that maps a `Position` after warm-up and the settings of its kind to a factor for lr.

    Attributes:
        warmup_share: share of the run used as warm-up if the job does not set one; at most 1000 steps.
        falls: whether the factor ends at 0, so that the rate ends at `min_lr`. If not, `min_lr` is a lower bound.
        params: see Choice.
    """

    warmup_share: float = 0.0
    falls: bool = False
    params: type[ScheduleParams] = ScheduleParams


_WARMUP = "`lr_scheduler_params: {warmup_steps: STEPS}`"
_HERE = "toolkit.optimizers.schedules"

SCHEDULES = {
    "constant": ScheduleChoice(
        f"{_HERE}:constant",
        summary="The full learning rate throughout.",
        elsewhere=dict.fromkeys(
            ("warmup_stable_decay", "wsd", "constant_with_cooldown"), "`constant`, and `cooldown: SHARE`"
        ),
    ),
    "constant_with_warmup": ScheduleChoice(
        f"{_HERE}:constant",
        summary="The full learning rate after a warm-up, which by default takes a tenth of the run.",
        warmup_share=0.1,
        elsewhere=dict.fromkeys(("warmup", "constant_warmup", "warmup_constant"), "`constant_with_warmup`"),
    ),
    "cosine": ScheduleChoice(
        f"{_HERE}:cosine",
        summary="Half a cosine from lr down to `min_lr`.",
        falls=True,
        params=FallingParams,
        elsewhere={
            **dict.fromkeys(
                ("cosine_with_warmup", "cosine_warmup", "warmup_cosine", "cosine_annealing_with_warmup"),
                f"`cosine`, and {_WARMUP}",
            ),
            **dict.fromkeys(("cosine_annealing", "cosineannealing", "cosineannealinglr"), "`cosine`"),
            **dict.fromkeys(("cosine_with_min_lr", "cosine_min_lr"), "`cosine`, and its `min_lr`"),
        },
    ),
    "cosine_with_restarts": ScheduleChoice(
        f"{_HERE}:cosine_with_restarts",
        summary="Several half cosines of equal length, each from lr down to `min_lr`.",
        falls=True,
        params=RestartParams,
        elsewhere=dict.fromkeys(
            ("cosine_with_hard_restarts", "cosine_restarts", "cosineannealingwarmrestarts", "sgdr"),
            "`cosine_with_restarts`",
        ),
    ),
    "linear": ScheduleChoice(
        f"{_HERE}:linear",
        summary="Linear from lr down to `min_lr`.",
        falls=True,
        params=FallingParams,
        elsewhere=dict.fromkeys(("linear_with_warmup", "linear_warmup", "warmup_linear"), f"`linear`, and {_WARMUP}"),
    ),
    "polynomial": ScheduleChoice(
        f"{_HERE}:polynomial",
        summary="A power of the remaining share of the run, from lr down to `min_lr`.",
        falls=True,
        params=PolynomialParams,
        elsewhere=dict.fromkeys(("poly", "polynomial_with_warmup", "polynomiallr"), "`polynomial`"),
    ),
    "rex": ScheduleChoice(
        f"{_HERE}:rex",
        summary="From lr down to `min_lr`, slowly at first and steeply at the end.",
        falls=True,
        params=FallingParams,
        elsewhere=dict.fromkeys(("rex_lr", "rexlr", "reflected_exponential"), "`rex`"),
    ),
    "step": ScheduleChoice(
        f"{_HERE}:step",
        summary="The learning rate is multiplied by `gamma` every `step_size` steps, down to `min_lr` at most.",
        params=StepParams,
        elsewhere=dict.fromkeys(("steplr", "step_lr"), "`step`"),
    ),
    "piecewise": ScheduleChoice(
        f"{_HERE}:piecewise",
        summary="Factors of lr that change at the steps of `step_rules`.",
        spellings=("piecewise_constant",),
        params=PiecewiseParams,
        elsewhere=dict.fromkeys(("multistep", "multisteplr", "multi_step"), "`piecewise`, and its `step_rules`"),
    ),
}
