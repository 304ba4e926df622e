"""Settings of learning rate schedules, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from toolkit.section import Harmless, Section, Shown

_RULES = "factor:step pairs and a last factor, such as `1:500,0.1:800,0.01`"


class ScheduleParams(Section):
    """`train.lr_scheduler_params`. Steps are updates of the weights, however many batches each of them takes."""

    aliases: ClassVar[Mapping[str, str]] = {
        "num_warmup_steps": "warmup_steps",
        **dict.fromkeys(("eta_min", "lr_min", "lr_end"), "min_lr"),
    }

    warmup_steps: Annotated[int | None, Shown(label="Warm-up steps", unit="steps")] = Field(
        None,
        ge=0,
        description="Steps over which lr rises from 0. Unset: 0, or for constant_with_warmup a tenth of the run, at "
        "most 1000.",
    )

    min_lr: Annotated[float, Shown(label="Lowest learning rate")] = Field(
        0.0,
        ge=0,
        description="Learning rate at the end of a schedule that falls; with step and piecewise, the lowest one. "
        "Before any cool-down.",
    )

    @property
    def length(self) -> int | None:
        """Number of steps that the schedule is laid out for; None for those of the run."""
        return None


class FallingParams(ScheduleParams):
    """`train.lr_scheduler_params` of schedules that do not stay at `lr`."""

    num_steps: Annotated[Harmless[int | None], Shown(label="Length of the schedule", level="expert", unit="steps")] = (
        Field(
            None,
            ge=1,
            description="Number of steps that the schedule spans, including warm-up. Unset: `train.steps`. To end a "
            "run early with `train.cooldown`, set it to the `train.steps` that the run had.",
        )
    )

    @property
    def length(self) -> int | None:
        """See ScheduleParams."""
        return self.num_steps


class RestartParams(FallingParams):
    """`train.lr_scheduler_params` of `cosine_with_restarts`."""

    num_cycles: int = Field(2, ge=1, description="Number of times that the learning rate falls.")


class PolynomialParams(FallingParams):
    """`train.lr_scheduler_params` of `polynomial`."""

    power: float = Field(2.0, gt=0, description="Power of the remaining share of the steps. 1 is linear.")


class StepParams(FallingParams):
    """`train.lr_scheduler_params` of `step`."""

    step_size: Annotated[int | None, Shown(unit="steps")] = Field(
        None,
        ge=1,
        description="Steps between changes, counted after warm-up. Unset: a third of the steps after warm-up.",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor of the learning rate at each change.")


class PiecewiseParams(FallingParams):
    """`train.lr_scheduler_params` of `piecewise`."""

    step_rules: str = Field(
        "1:0.5,0.1:0.8,0.01",
        description="Factors of lr, each with the step at which it ends, and a last factor: `1:500,0.1:800,0.01`. "
        "Steps count from the start of the run; below 1, they are shares of it.",
    )

    @property
    def pieces(self) -> tuple[tuple[float, float | None], ...]:
        """Factor of lr and where it ends, in steps or, below 1, as a share of the run; None for the last one."""
        found = []
        for rule in self.step_rules.split(","):
            factor, colon, end = rule.partition(":")
            found.append((float(factor), float(end) if colon else None))
        return tuple(found)

    @field_validator("step_rules")
    @classmethod
    def _must_be_rules(cls, value: str) -> str:
        try:
            pieces = cls.model_construct(step_rules=value).pieces
        except ValueError:
            raise ValueError(f"{value!r} is not {_RULES}") from None
        ends = [end for _, end in pieces[:-1]]
        if pieces[-1][1] is not None or None in ends or not all(0 <= factor < float("inf") for factor, _ in pieces):
            raise ValueError(f"{value!r} is not {_RULES}")
        known = [end for end in ends if end is not None]
        if not all(0 < end < float("inf") and (end < 1 or end.is_integer()) for end in known):
            raise ValueError(f"{value!r}: a factor ends at a whole step or, below 1, at a share of the run")
        if len({end < 1 for end in known}) > 1:
            raise ValueError(f"{value!r}: give steps or shares of the run, not both")
        if any(later <= earlier for earlier, later in pairwise(known)):
            raise ValueError(f"{value!r}: each step must be after the one before it")
        return value
