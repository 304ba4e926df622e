"""`train`: the loop, the optimizer and what a step computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from toolkit.choice import ChoiceOf, Spellings, params_of
from toolkit.config.remarks import Around, OnlyWith, Worth
from toolkit.dtypes import Dtype
from toolkit.objectives.choices import BIASES, LOSSES, OBJECTIVES, TIMESTEPS
from toolkit.optimizers.choices import OPTIMIZERS, SCHEDULES, lr_that_fits
from toolkit.section import Harmless, Section, Shown

LONGEST_WARMUP = 1000
FALLING = tuple(name for name, row in SCHEDULES.items() if row.falls)
_OPTIMIZER_PARAMS = params_of("optimizer", OPTIMIZERS)


class LrSchedulerParams(Section):
    """`train.lr_scheduler_params`."""

    aliases: ClassVar[Mapping[str, str]] = {"num_warmup_steps": "warmup_steps", "eta_min": "min_lr", "lr_min": "min_lr"}

    warmup_steps: Annotated[int | None, Shown(unit="steps")] = Field(
        None,
        ge=0,
        description="Steps in which lr rises from 0. Unset: 0; constant_with_warmup: a tenth of the run, at most 1000.",
    )
    min_lr: Annotated[
        float,
        OnlyWith(
            f"with `lr_scheduler: {'` or `'.join(FALLING)}`", lambda around: around.parent.lr_scheduler in FALLING
        ),
    ] = Field(0.0, ge=0, description="Where lr ends.")


def _is_averaged(around: Around) -> bool:
    ema = around.section
    return ema.use_ema or "use_ema" not in ema.model_fields_set  # that it is missing is said of the whole section


class EmaConfig(Section):
    """`train.ema_config`: a running average of the trained weights, which is what gets saved and sampled."""

    use_ema: bool = Field(False, description="Keep the average.")
    ema_decay: Annotated[float, OnlyWith("with `use_ema: true`", _is_averaged), Shown(level="expert")] = Field(
        0.99, gt=0, lt=1, description="Share of the old average kept at each step."
    )


def _is_guidance_read(around: Around) -> bool:
    is_left_out = around.section.bypass_guidance_embedding and around.can("guidance_bypass")
    return around.can("guidance_embed") and not is_left_out


def _are_regularised(around: Around) -> bool:
    return any(dataset.is_reg for dataset in around.process.datasets)


def _large_lr(around: Around) -> str | None:
    row = OPTIMIZERS[around.section.optimizer]
    if row.largest_lr is None or around.value < row.largest_lr:
        return None
    return (
        f"{around.value:g} is a rate for Prodigy and others that find the size of a step themselves. With "
        f"{around.section.optimizer} it destroys the weights within a few steps: 1e-4 is usual"
    )


def _without_captions(around: Around) -> str | None:
    process = around.process
    if process.uses_captions:
        return None
    words = dict.fromkeys(dataset.trigger_word or process.trigger_word or "" for dataset in process.datasets)
    text = " or ".join(f'"{word}"' if word else "an empty text" for word in words)
    return (
        f"CAPTIONS ARE NOT USED: every image is trained with {text} alone. To train with the captions, add "
        "`cache_text_embeddings: true` or remove the key; the text encoder is freed before training in any case"
    )


class TrainConfig(Section):
    """`train`: how the weights are changed."""

    aliases: ClassVar[Mapping[str, str]] = {"gradient_accumulation_steps": "gradient_accumulation"}
    off_aliases: ClassVar[Mapping[str, Any]] = {"gradient_accumulation_steps": 1}

    steps: Harmless[Annotated[int, Shown(level="basic", unit="steps")]] = Field(
        1000, ge=1, description="Steps in all, those of earlier runs of the job included."
    )
    lr: Annotated[float, Worth(_large_lr), Shown(level="basic")] = Field(1e-4, gt=0, description="Learning rate.")
    full_finetune: Annotated[bool, Shown(level="basic")] = Field(
        False, description="Train all weights of the transformer. For jobs without `network`."
    )
    optimizer: Annotated[str, ChoiceOf(OPTIMIZERS, besides=lr_that_fits)] = Field("adamw", description="Optimizer.")
    optimizer_params: Annotated[Section, _OPTIMIZER_PARAMS] = Field(
        _OPTIMIZER_PARAMS.default, validate_default=True, description="Its settings."
    )
    full_finetune_weights: Annotated[
        Literal["fp32", "bf16_stochastic", "bf16_split"], Spellings({}), Shown(level="expert")
    ] = Field(
        "fp32",
        description="How a full fine-tune holds the weights. bf16_split computes with bf16 and keeps the other half of "
        "each fp32 weight beside it: exact. bf16_stochastic rounds at random, right on average: half the memory.",
    )
    fused_backward_pass: Annotated[bool, Shown(level="expert")] = Field(
        False,
        description="Full fine-tune: update each weight as soon as its gradient is known, so that only one gradient "
        "is held at a time. Needs `max_grad_norm: 0`.",
    )
    lr_scheduler: Annotated[str, ChoiceOf(SCHEDULES)] = Field(
        "constant", description="Course of lr after warm-up: cosine and linear fall to `min_lr`."
    )
    lr_scheduler_params: LrSchedulerParams = Field(LrSchedulerParams(), description="Its settings.")
    batch_size: Annotated[int, Shown(level="basic", unit="images")] = Field(1, ge=1, description="Images per batch.")
    gradient_accumulation: int = Field(1, ge=1, description="Batches per step; their gradients are averaged.")
    max_grad_norm: Annotated[float, Shown(level="expert")] = Field(
        1.0, ge=0, description="Longer gradients are shortened to this. 0: never."
    )
    dtype: Dtype = Field("bf16", description="Precision of the frozen model, and of the arithmetic.")
    noise_scheduler: Annotated[Literal["flowmatch"], Spellings({}), Shown(level="expert")] = Field(
        "flowmatch", description="Path from image to noise."
    )
    timestep_type: Annotated[str, ChoiceOf(TIMESTEPS)] = Field(
        "sigmoid", description="How the noise level of an example is drawn."
    )
    content_or_style: Annotated[str, ChoiceOf(BIASES)] = Field(
        "balanced", description="Which noise levels are drawn more: content the high ones, style the low ones."
    )
    min_denoising_steps: Annotated[int, Shown(level="expert")] = Field(
        0, ge=0, le=999, description="First of 1000 noise levels that are trained; 0 is pure noise."
    )
    max_denoising_steps: Annotated[int, Shown(level="expert")] = Field(
        999, ge=0, le=999, description="Last of 1000 noise levels that are trained; 999 is the image."
    )
    objective: Annotated[str, ChoiceOf(OBJECTIVES)] = Field("velocity", description="What a step minimises.")
    loss_type: Annotated[str, ChoiceOf(LOSSES)] = Field("mse", description="Distance between prediction and target.")
    cfg_scale: Annotated[
        float,
        OnlyWith("by models with a guidance embedding, where it is not bypassed", _is_guidance_read),
        Shown(level="expert", needs="guidance_embed"),
    ] = Field(1.0, ge=0, description="Guidance value that the model gets in training.")
    bypass_guidance_embedding: Annotated[
        bool,
        OnlyWith(
            "by models that can do without their guidance embedding, FLUX.1 [dev] and its like, as in ai-toolkit",
            lambda around: around.can("guidance_bypass"),
        ),
        Shown(level="expert", needs="guidance_bypass"),
    ] = Field(False, description="Train without the guidance embedding.")
    reg_weight: Annotated[float, OnlyWith("beside a dataset with `is_reg: true`", _are_regularised)] = Field(
        1.0, ge=0, description="Weight of regularisation sets in the loss."
    )
    gradient_checkpointing: Harmless[bool] = Field(
        True, description="Recompute activations in the backward pass to save memory."
    )
    ema_config: EmaConfig | None = Field(None, description="Average of the trained weights.")
    cache_text_embeddings: Harmless[bool] = Field(
        False, description="Keep encoded captions on disk, for every dataset."
    )
    unload_text_encoder: Annotated[bool, Worth(_without_captions)] = Field(
        False,
        description="Train on the trigger word alone and ignore the captions. With `cache_text_embeddings: true` they "
        "are used, as in ai-toolkit; the text encoder is freed before training in any case.",
    )
    skip_first_sample: Harmless[
        Annotated[bool, OnlyWith("without `force_first_sample`", lambda around: not around.section.force_first_sample)]
    ] = Field(False, description="No samples before the first step.")
    force_first_sample: Harmless[
        Annotated[bool, OnlyWith("without `disable_sampling`", lambda around: not around.section.disable_sampling)]
    ] = Field(False, description="Samples before the first step of a resumed run too.")
    disable_sampling: Harmless[bool] = Field(False, description="No samples at all.")

    @property
    def warmup_steps(self) -> int:
        """Steps over which lr rises from 0."""
        if self.lr_scheduler_params.warmup_steps is not None:
            return self.lr_scheduler_params.warmup_steps
        return min(LONGEST_WARMUP, int(SCHEDULES[self.lr_scheduler].warmup_share * self.steps))

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.min_denoising_steps > self.max_denoising_steps:
            raise ValueError(
                f"min_denoising_steps ({self.min_denoising_steps}) is above max_denoising_steps "
                f"({self.max_denoising_steps}): no noise level is left to train"
            )
        if self.lr_scheduler_params.min_lr > self.lr:
            raise ValueError(f"lr_scheduler_params.min_lr ({self.lr_scheduler_params.min_lr}) is above lr ({self.lr})")
        return self

    @model_validator(mode="after")
    def _full_finetune_fits_together(self) -> TrainConfig:
        for key in ("full_finetune_weights", "fused_backward_pass"):
            if not self.full_finetune and getattr(self, key) != TrainConfig.model_fields[key].default:
                raise ValueError(f"`{key}` is for `full_finetune: true`; a LoRA is small. Remove it")
        if self.full_finetune_weights != "fp32" and self.dtype != "bf16":
            raise ValueError(f"`full_finetune_weights: {self.full_finetune_weights}` needs `dtype: bf16`")
        if self.fused_backward_pass and self.gradient_accumulation > 1:
            raise ValueError(
                "`fused_backward_pass` uses a gradient up at once, so there is none to accumulate: set "
                "`gradient_accumulation: 1`, or remove `fused_backward_pass`"
            )
        if self.fused_backward_pass and self.max_grad_norm > 0:
            raise ValueError(
                "`fused_backward_pass` never has the whole gradient, whose length `max_grad_norm` limits: set "
                "`max_grad_norm: 0`, or remove `fused_backward_pass`"
            )
        return self
