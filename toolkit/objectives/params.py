"""Settings of objectives, readable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from toolkit.section import Section, Shown

MOST_STEPS = 100


class TeacherParams(Section):
    """`train.objective_params` of objectives that learn from the base model, as it is without what is trained."""

    guidance_scale: float = Field(
        4.0,
        ge=0,
        description="Guidance scale of the teacher. The result has it built in: sample it with 1, or with this value "
        "if the model has a guidance embedding.",
    )
    negative_prompt: Annotated[str, Shown(needs="true_cfg")] = Field(
        "", description="Negative prompt of the teacher, for models with true guidance."
    )

    @property
    def has_teacher(self) -> bool:
        """Whether the base model's guided predictions are used."""
        return True

    def is_guided(self, *, has_true_cfg: bool) -> bool:
        """Whether the teacher makes a second pass with the negative prompt, on a model that can or cannot."""
        return self.has_teacher and has_true_cfg and self.guidance_scale > 1


class MeanFlowParams(TeacherParams):
    """`train.objective_params` of `mean_flow`."""

    steps: Annotated[int | None, Shown(unit="steps")] = Field(
        None,
        ge=1,
        le=MOST_STEPS,
        description="Train the network for this number of sampling steps only; its file is an ordinary LoRA. Unset: "
        "for any number of steps, which needs `adapter: {type: mean_flow}`.",
    )
    teacher_steps: Annotated[int, Shown(unit="steps")] = Field(
        4, ge=1, le=MOST_STEPS, description="Steps of the teacher for each step of the result."
    )


class VelocityParams(TeacherParams):
    """`train.objective_params` of `jvp`, and of others that need a velocity only at the start of a step."""

    velocity: Literal["teacher", "data"] = Field(
        "teacher", description="Velocity at the start of a step: the teacher's, with its guidance, or that of the data."
    )

    @property
    def has_teacher(self) -> bool:
        """See TeacherParams."""
        return self.velocity == "teacher"


class AlphaFlowParams(VelocityParams):
    """`train.objective_params` of `alpha_flow`."""

    alpha_start: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a step that follows that velocity, at the first step; 1 is flow matching.",
    )
    alpha_end: float = Field(0.25, gt=0, le=1, description="That share at the end; towards 0 it is a mean flow.")

    @model_validator(mode="after")
    def _falls(self) -> AlphaFlowParams:
        if self.alpha_end > self.alpha_start:
            raise ValueError(f"alpha_end ({self.alpha_end}) is above alpha_start ({self.alpha_start})")
        return self


class HuberParams(Section):
    """`train.loss_params` of `huber` and `smooth_l1`."""

    delta: float = Field(1.0, gt=0, description="Error above which the loss grows linearly.")


class PseudoHuberParams(Section):
    """`train.loss_params` of `pseudo_huber`."""

    c: float = Field(0.01, gt=0, description="Error at which the loss changes from squared to linear.")


class LogitNormalParams(Section):
    """`train.timestep_params` of `sigmoid`."""

    mean: float = Field(0.0, description="Mean of the logit; above 0: more noise.")
    std: float = Field(1.0, gt=0, description="Standard deviation of the logit.")


class ShiftParams(Section):
    """`train.timestep_params` of `shift`."""

    shift: float | None = Field(
        None, gt=0, description="Shift to more noise; 1: none. Unset: by the number of tokens, 3.16 at 1024 x 1024."
    )


class LogitNormalShiftParams(LogitNormalParams):
    """`train.timestep_params` of `logit_normal_shift`."""

    shift: float | None = Field(
        None, gt=0, description="Shift to more noise; 1: none. Unset: by the number of tokens, 3.16 at 1024 x 1024."
    )


class BetaParams(Section):
    """`train.timestep_params` of `beta`."""

    alpha: float = Field(2.0, ge=0.5, description="Above `beta`: more noise.")
    beta: float = Field(2.0, ge=0.5, description="Above `alpha`: less noise.")


class SliderParams(Section):
    """`train.objective_params` of `concept_slider`, or the section `slider` of a process."""

    positive_prompt: str = Field("", description="What the class is like at strength 1.")
    negative_prompt: str = Field("", description="What the class is like at strength -1.")
    target_class: str = Field("", description='The class that changes, such as "person". "": everything.')
    anchor_class: str | None = Field(
        None, description="What must not change at either strength. Unset: nothing is preserved."
    )
    guidance_strength: float = Field(
        3.0, gt=0, description="How far the prediction is moved along the difference of the two prompts."
    )
    anchor_strength: float = Field(1.0, ge=0, description="Weight of what must not change.")

    @model_validator(mode="after")
    def _has_two_ends(self) -> SliderParams:
        if self.positive_prompt == self.negative_prompt:
            raise ValueError(
                "positive_prompt and negative_prompt are the same, so the slider would have no direction: describe its "
                "two ends"
            )
        return self

    def words(self) -> dict[str, str]:
        """The prompts by the names that the objective reads them under."""
        found = {"positive": self.positive_prompt, "negative": self.negative_prompt, "target": self.target_class}
        return found if self.anchor_class is None else {**found, "anchor": self.anchor_class}
