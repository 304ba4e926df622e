"""The keys of `train` that change what a step minimises: preservation, guidance, and what counts how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from toolkit.choice import ChoiceOf, Spellings
from toolkit.config.remarks import KeyContext, Notice, OnlyWith
from toolkit.objectives.choices import WEIGHTINGS
from toolkit.section import Section, Shown

_DEFAULT_CLASS_OF_FORMS = "person"  # ai-toolkit's form writes it whether or not anything reads it


def _with(key: str) -> OnlyWith:
    """Used only if the switch `key` of the same section is on."""
    return OnlyWith(f"with `{key}: true`", lambda context: bool(getattr(context.section, key)), is_switched=True)


def _preserves(context: KeyContext) -> bool:
    return context.process.preserves_output or context.value == _DEFAULT_CLASS_OF_FORMS


_WITH_PRESERVATION = OnlyWith(
    "with `diff_output_preservation: true`, here or in a dataset", _preserves, is_switched=True
)


def _says_when(what: str, is_so: Callable[[Any], bool]) -> Notice:
    return Notice(lambda context: what if is_so(context) else None)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


_Target = Annotated[float, Field(gt=0)]
_NO_MINIMUM = (
    "the squared distance to the target minus that to the base model has no minimum: it falls without limit along the "
    "line from base to target. Train for few steps, keep `max_grad_norm`, and watch the samples"
)
_LIKE_A_LARGER_LR = (
    "the gradient is multiplied by the scale and the loss by its square: with adam-like optimizers and clipping it "
    "changes little else, so that a larger `lr` does the same"
)


class ObjectiveConfig(Section):
    """The keys of `train` that change what a step minimises."""

    diff_output_preservation: Annotated[bool, Shown(label="Preserve the class")] = Field(
        False,
        description="Also learn to predict as the base model does for the same caption with the class in place of the "
        "trigger word. Needs a trigger word and a network; two more passes per step, one of them with a gradient.",
    )
    diff_output_preservation_class: Annotated[str, _WITH_PRESERVATION, Shown(label="Class to preserve")] = Field(
        "",
        description='Class of the trigger word, such as "person". "": the caption without the trigger word.',
    )
    diff_output_preservation_multiplier: Annotated[
        float, _WITH_PRESERVATION, Shown(label="Weight of the class", level="expert")
    ] = Field(1.0, gt=0, description="Weight of this term of the loss.")
    blank_prompt_preservation: Annotated[bool, Shown(label="Preserve the empty prompt")] = Field(
        False,
        description="Also learn to predict as the base model does for an empty prompt. Needs a network; two more "
        "passes per step, one of them with a gradient.",
    )
    blank_prompt_preservation_multiplier: Annotated[
        float, _with("blank_prompt_preservation"), Shown(label="Weight of the empty prompt", level="expert")
    ] = Field(1.0, gt=0, description="Weight of this term of the loss.")
    inverted_mask_prior: Annotated[bool, Shown(label="Preserve what is outside masks")] = Field(
        False,
        description="Outside masks, learn to predict as the base model does. Needs masks and a network; one more "
        "pass per step.",
    )
    inverted_mask_prior_multiplier: Annotated[
        float, _with("inverted_mask_prior"), Shown(label="Weight outside masks", level="expert")
    ] = Field(0.5, gt=0, description="Weight of this term of the loss.")
    do_prior_divergence: Annotated[
        bool, _says_when(_NO_MINIMUM, lambda context: context.value), Shown(label="Away from the base", level="expert")
    ] = Field(
        False,
        description="Subtract the squared distance to the base model's prediction from the loss. Needs a network; one "
        "more pass per step.",
    )
    do_guidance_loss: Annotated[bool, Shown(label="Guidance-aware loss")] = Field(
        False,
        description="Keep the guidance that is distilled into a model: learn u + s (target - u), where u is the "
        "model's own prediction for `unconditional_prompt` and s the `guidance_loss_target`. One more pass per step.",
    )
    guidance_loss_target: Annotated[
        tuple[_Target, ...],
        BeforeValidator(_as_list, json_schema_input_type=_Target | list[_Target]),
        Field(min_length=1, max_length=2),
        _with("do_guidance_loss"),
        _says_when(
            "with 1 the guidance-aware loss is the plain one",
            lambda context: context.section.do_guidance_loss and set(context.value) == {1},
        ),
        Shown(label="Guidance to learn"),
    ] = Field(
        (3.0,),
        description="The guidance s. Two numbers: each sample draws one between them. Models with a guidance embedding "
        "are given it in place of `cfg_scale`, in all passes.",
    )
    guidance_loss_schedule: Annotated[
        Literal["constant", "sigma"], Spellings({}), _with("do_guidance_loss"), Shown(level="expert")
    ] = Field("constant", description="constant: s at every noise level. sigma: 1 + (s - 1) sigma, so 1 without noise.")
    guidance_loss_form: Annotated[
        Literal["target", "mirrored"], Spellings({}), _with("do_guidance_loss"), Shown(level="expert")
    ] = Field(
        "target",
        description="target: as above. mirrored: (v + (s - 1) u) / s learns the plain target, where v is the "
        "prediction, as in musubi-tuner: the same minimum, with the loss divided by s².",
    )
    do_guidance_loss_cfg_zero: Annotated[bool, _with("do_guidance_loss"), Shown(level="expert")] = Field(
        False, description="Scale u by its projection on the target, as in CFG-Zero*."
    )
    unconditional_prompt: Annotated[str, _with("do_guidance_loss"), Shown(level="expert")] = Field(
        "", description="The prompt of u."
    )
    loss_weighting: Annotated[str | None, ChoiceOf(WEIGHTINGS), Shown(level="expert")] = Field(
        None, description="How much each noise level counts in the loss. Unset: as `timestep_type` says."
    )
    max_loss: Annotated[float | None, Shown(label="Largest loss", level="expert")] = Field(
        None,
        gt=0,
        description="A sample's loss is limited to this; a sample above the limit has no gradient. Unset: no limit.",
    )
    do_differential_guidance: Annotated[
        bool, _says_when(_LIKE_A_LARGER_LR, lambda context: context.value), Shown(level="expert")
    ] = Field(False, description="Move the target away from the prediction: prediction + scale (target - prediction).")
    differential_guidance_scale: Annotated[float, _with("do_differential_guidance"), Shown(level="expert")] = Field(
        3.0, gt=0, description="The scale: a factor of the gradient; the loss grows by its square."
    )

    @model_validator(mode="after")
    def _preserves_one_thing(self) -> ObjectiveConfig:
        if self.diff_output_preservation and self.blank_prompt_preservation:
            raise ValueError(
                "`diff_output_preservation` and `blank_prompt_preservation` preserve the predictions for other words: "
                "keep one of them"
            )
        target = self.guidance_loss_target
        if len(target) == 2 and target[0] > target[1]:
            raise ValueError(f"guidance_loss_target ({target[0]:g}, {target[1]:g}): the smaller number comes first")
        return self
