"""The learning rate schedules that a job can choose: one row each, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice


@dataclass(frozen=True, kw_only=True)
class ScheduleChoice(Choice):
    """A function that maps progress after warm-up (0..1) to a factor for lr (1..0).

    Attributes:
        warmup_share: share of the run used as warm-up if the job does not set one; at most 1000 steps.
        falls: whether the learning rate ends at `min_lr`.
    """

    warmup_share: float = 0.0
    falls: bool = False


_WARMUP = "`lr_scheduler_params: {warmup_steps: STEPS}`"

SCHEDULES = {
    "constant": ScheduleChoice("toolkit.optimizers.schedules:constant", summary="The full rate throughout."),
    "constant_with_warmup": ScheduleChoice(
        "toolkit.optimizers.schedules:constant",
        summary="The full rate after a warm-up, by default of a tenth of the run.",
        warmup_share=0.1,
        elsewhere=dict.fromkeys(("warmup", "constant_warmup", "warmup_constant"), "`constant_with_warmup`"),
    ),
    "cosine": ScheduleChoice(
        "toolkit.optimizers.schedules:cosine",
        summary="Half a cosine from lr down to `min_lr`.",
        falls=True,
        elsewhere={
            **dict.fromkeys(
                ("cosine_with_warmup", "cosine_warmup", "warmup_cosine", "cosine_annealing_with_warmup"),
                f"`cosine`, and {_WARMUP}",
            ),
            **dict.fromkeys(("cosine_annealing", "cosineannealing", "cosineannealinglr"), "`cosine`"),
            **dict.fromkeys(("cosine_with_min_lr", "cosine_min_lr"), "`cosine`, and its `min_lr`"),
        },
    ),
    "linear": ScheduleChoice(
        "toolkit.optimizers.schedules:linear",
        summary="A straight line from lr down to `min_lr`.",
        falls=True,
        elsewhere=dict.fromkeys(("linear_with_warmup", "linear_warmup", "warmup_linear"), f"`linear`, and {_WARMUP}"),
    ),
}
