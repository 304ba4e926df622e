"""`train`: the training loop, the optimizer, and what a step computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from toolkit.choice import ChoiceOf, NoParams, Spellings, params_of
from toolkit.config.objectives.keys import ObjectiveConfig
from toolkit.config.remarks import KeyContext, Notice, OnlyWith
from toolkit.config.updates.average import EmaConfig
from toolkit.config.updates.schedule import ScheduleConfig
from toolkit.config.validation.settings import Validation
from toolkit.config.validation.settings import ValidationConfig as ValidationConfig
from toolkit.dtypes import Dtype
from toolkit.objectives.choices import BIASES, LOSSES, OBJECTIVES, TIMESTEPS, ObjectiveChoice
from toolkit.objectives.params import TeacherParams
from toolkit.optimizers.choices import OPTIMIZERS, optimizer_row
from toolkit.optimizers.params import AnyParams
from toolkit.optimizers.row import ANY_CLASS, CLASS, is_class
from toolkit.section import Harmless, Section, SectionBy, Shown

_OPTIMIZER = ChoiceOf(OPTIMIZERS, others=CLASS)
_OPTIMIZER_PARAMS = SectionBy(
    "optimizer",
    {**{name: row.params or NoParams for name, row in OPTIMIZERS.items()}, ANY_CLASS: AnyParams},
    lambda name: ANY_CLASS if is_class(name) else _OPTIMIZER.spellings.canonical(name),
)
_OBJECTIVE_PARAMS = params_of("objective", OBJECTIVES)
_LOSS_PARAMS = params_of("loss_type", LOSSES)
_TIMESTEP_PARAMS = params_of("timestep_type", TIMESTEPS)
_DRAWS_NOISE_LEVELS = OnlyWith(
    "by objectives that learn at one noise level at a time", lambda context: not _row(context).has_steps
)

_DRAWS_ANY_LEVEL = OnlyWith(
    "by objectives that learn at one noise level at a time, with a `timestep_type` of more than a few levels",
    lambda context: not _row(context).has_steps and not TIMESTEPS[context.section.timestep_type].is_discrete,
)


def _row(context: KeyContext) -> ObjectiveChoice:
    return OBJECTIVES[context.section.objective]


def _is_guidance_read(context: KeyContext) -> bool:
    """Whether the model is given the guidance. 1 is no guidance, which is what other models have anyway."""
    train = context.section
    is_left_out = train.bypass_guidance_embedding and context.can("guidance_bypass")
    return context.value == 1 or (
        context.can("guidance_embed") and not is_left_out and not _has_teacher(train) and not train.do_guidance_loss
    )


def _has_teacher(train: Any) -> bool:
    """Whether the objective has a teacher, whose guidance the model is given too."""
    return isinstance(train.objective_params, TeacherParams) and train.objective_params.has_teacher


def _are_regularised(context: KeyContext) -> bool:
    return context.value == 1 or any(dataset.is_reg for dataset in context.process.datasets)


def _large_lr(context: KeyContext) -> str | None:
    row = optimizer_row(context.section.optimizer)
    if row.largest_lr is None or context.value < row.largest_lr:
        return None
    return (
        f"{context.value:g} suits Prodigy and other optimizers that find the step size themselves. With "
        f"{context.section.optimizer} it destroys the weights within a few steps: 1e-4 is usual"
    )


def _optimizer_notice(context: KeyContext) -> str | None:
    return optimizer_row(context.section.optimizer).notice or None


_CAPTIONS = "with captions, which `unload_text_encoder: true` alone turns off"


def _uses_captions(context: KeyContext) -> bool:
    return bool(context.process.uses_captions)


def _without_captions(context: KeyContext) -> str | None:
    process = context.process
    if process.uses_captions:
        return None
    words = dict.fromkeys(dataset.trigger_word or process.trigger_word or "" for dataset in process.datasets)
    text = " or ".join(f'"{word}"' if word else "an empty caption" for word in words)
    return (
        f"CAPTIONS ARE NOT USED: every image is trained with {text} alone. To train with the captions, add "
        "`cache_text_embeddings: true` or remove this key; the text encoder is freed before training in any case"
    )


class TrainConfig(ScheduleConfig, ObjectiveConfig):
    """`train`: how the weights are trained."""

    aliases: ClassVar[Mapping[str, str]] = {"gradient_accumulation_steps": "gradient_accumulation"}
    off_aliases: ClassVar[Mapping[str, Any]] = {"gradient_accumulation_steps": 1}

    steps: Harmless[Annotated[int, Shown(level="basic", unit="steps")]] = Field(
        1000, ge=1, description="Total number of steps, including those of earlier runs."
    )
    lr: Annotated[float, Notice(_large_lr), Shown(level="basic")] = Field(1e-4, gt=0, description="Learning rate.")
    full_finetune: Annotated[bool, Shown(label="Full fine-tune", level="basic")] = Field(
        False, description="Train all weights of the transformer, in jobs without `network`."
    )
    optimizer: Annotated[str, _OPTIMIZER, Notice(_optimizer_notice)] = Field(
        "adamw", description="Optimizer: one of these, or a class of your own as `package.Class`."
    )
    optimizer_params: Annotated[Section, _OPTIMIZER_PARAMS, Shown(label="Optimizer settings")] = Field(
        _OPTIMIZER_PARAMS.default, validate_default=True, description="Settings of the optimizer."
    )
    full_finetune_weights: Annotated[
        Literal["fp32", "bf16_stochastic", "bf16_split"],
        OnlyWith("with `full_finetune: true`", lambda context: context.section.full_finetune),
        Spellings({}),
        Shown(label="Full fine-tune: storage of weights", level="expert"),
    ] = Field(
        "fp32",
        description="How a full fine-tune stores the weights. bf16_split computes with bf16 and stores the other half "
        "of each fp32 weight separately: exact. bf16_stochastic rounds at random, unbiased: half the memory.",
    )
    fused_backward_pass: Annotated[bool, Shown(level="expert")] = Field(
        False,
        description="Full fine-tune: update each weight as soon as its gradient is computed, so that only one gradient "
        "is in memory at a time. Needs `max_grad_norm: 0`.",
    )
    sharding: Annotated[
        Harmless[Literal["none", "full"]], Spellings({}), Shown(label="Sharding over cards", level="expert")
    ] = Field(
        "none",
        description="With several processes (torchrun), full shards the transformer's weights, gradients and "
        "optimizer state over them (FSDP2): each needs 1/n of the memory. Training itself does not change.",
    )
    context_parallel: Annotated[
        Harmless[int], Shown(label="Processes per sequence", level="expert", needs="context_parallel")
    ] = Field(
        1,
        ge=1,
        description="Number of processes (torchrun) that share each sequence, for long sequences: each holds 1/n of "
        "the activations. They train on the same batch.",
    )
    batch_size: Annotated[int, Shown(level="basic", unit="images")] = Field(1, ge=1, description="Images per batch.")
    gradient_accumulation: int = Field(1, ge=1, description="Batches per step; their gradients are averaged.")
    max_grad_norm: Annotated[float, Shown(label="Gradient clipping", level="expert")] = Field(
        1.0, ge=0, description="Gradients with a larger norm are clipped to this. 0: never."
    )
    dtype: Dtype = Field("bf16", description="Precision of the frozen model and of the computation.")
    noise_scheduler: Annotated[Literal["flowmatch"], Spellings({}), Shown(label="Noise schedule", level="expert")] = (
        Field("flowmatch", description="Noise schedule: the path from image to noise.")
    )
    timestep_type: Annotated[str, ChoiceOf(TIMESTEPS), _DRAWS_NOISE_LEVELS, Shown(label="Noise levels")] = Field(
        "sigmoid", description="Distribution that noise levels are drawn from."
    )
    timestep_params: Annotated[Section, _TIMESTEP_PARAMS, Shown(label="Noise levels: settings", level="expert")] = (
        Field(_TIMESTEP_PARAMS.default, validate_default=True, description="Settings of the distribution.")
    )
    next_sample_timesteps: Annotated[
        int,
        OnlyWith(
            "with `timestep_type: next_sample`",
            lambda context: context.section.timestep_type == "next_sample",
            is_switched=True,
        ),
        Shown(level="expert", unit="steps"),
    ] = Field(8, ge=3, le=100, description="Steps of the sampler whose levels are trained.")
    stratified_timesteps: Annotated[bool, _DRAWS_NOISE_LEVELS, Shown(level="expert")] = Field(
        False, description="Stratify the noise levels of a step evenly over the distribution."
    )
    content_or_style: Annotated[str, ChoiceOf(BIASES), _DRAWS_ANY_LEVEL] = Field(
        "balanced", description="Which noise levels are drawn more often: content the high ones, style the low ones."
    )
    min_denoising_steps: Annotated[int, _DRAWS_ANY_LEVEL, Shown(label="First noise level", level="expert")] = Field(
        0, ge=0, le=999, description="First of the 1000 noise levels to train; 0 is pure noise."
    )
    max_denoising_steps: Annotated[int, _DRAWS_ANY_LEVEL, Shown(label="Last noise level", level="expert")] = Field(
        999, ge=0, le=999, description="Last of the 1000 noise levels to train; 999 is the image."
    )
    objective: Annotated[str, ChoiceOf(OBJECTIVES)] = Field("velocity", description="What a step minimises.")
    objective_params: Annotated[Section, _OBJECTIVE_PARAMS, Shown(label="Objective settings")] = Field(
        _OBJECTIVE_PARAMS.default, validate_default=True, description="Settings of the objective."
    )
    loss_type: Annotated[str, ChoiceOf(LOSSES), Shown(label="Loss")] = Field(
        "mse", description="Loss function: the distance between prediction and target."
    )
    loss_params: Annotated[Section, _LOSS_PARAMS, Shown(label="Loss: settings", level="expert")] = Field(
        _LOSS_PARAMS.default, validate_default=True, description="Settings of the loss function."
    )
    cfg_scale: Annotated[
        float,
        OnlyWith(
            "by models with a guidance embedding, unless it is bypassed, or the objective sets its own guidance",
            _is_guidance_read,
        ),
        Shown(label="Guidance in training", level="expert", needs="guidance_embed"),
    ] = Field(1.0, ge=0, description="Guidance value given to the model in training.")
    bypass_guidance_embedding: Annotated[
        bool,
        OnlyWith(
            "by models that can be trained without their guidance embedding, such as FLUX.1 [dev], as in ai-toolkit",
            lambda context: context.can("guidance_bypass"),
        ),
        Shown(level="expert", needs="guidance_bypass"),
    ] = Field(False, description="Train without the guidance embedding.")
    reg_weight: Annotated[
        float,
        OnlyWith("with a dataset that has `is_reg: true`", _are_regularised),
        Shown(label="Weight of regularisation images"),
    ] = Field(1.0, ge=0, description="Weight of regularisation datasets in the loss.")
    gradient_checkpointing: Harmless[bool] = Field(
        True, description="Recompute activations in the backward pass to save memory."
    )
    merge_network_on_save: Annotated[Harmless[bool], Shown(label="Save the merged model", level="expert")] = Field(
        False,
        description="Save the whole transformer with the network merged in, in the layout of `save.save_format`, "
        "instead of the network's file. Training and checkpoints are not affected.",
    )
    merge_network_on_save_strength: Annotated[
        Harmless[float],
        OnlyWith(
            "with `merge_network_on_save: true`",
            lambda context: context.section.merge_network_on_save,
            is_switched=True,
        ),
        Shown(level="expert"),
    ] = Field(1.0, description="Strength of the network in the merged model.")
    ema_config: Annotated[EmaConfig | None, Shown(label="Average of the weights")] = Field(
        None, description="Running average of the trained weights."
    )
    validation_config: Validation = Field(
        None, description="Measure the training while it runs, on held-out images and on prompts."
    )
    cache_text_embeddings: Annotated[Harmless[bool], Shown(label="Cache captions on disk")] = Field(
        False, description="Keep the encoded captions of every dataset on disk."
    )
    short_and_long_captions: Annotated[bool, OnlyWith(_CAPTIONS, _uses_captions), Shown(level="expert")] = Field(
        False,
        description="Train with each image's `caption_short` half of the time, and with its `caption` the other half.",
    )
    unload_text_encoder: Annotated[bool, Notice(_without_captions), Shown(label="Train on the trigger word alone")] = (
        Field(
            False,
            description="Train on the trigger word alone and ignore the captions. With `cache_text_embeddings: true` "
            "the captions are used, as in ai-toolkit. The text encoder is freed before training in any case.",
        )
    )
    skip_first_sample: Harmless[
        Annotated[
            bool, OnlyWith("without `force_first_sample`", lambda context: not context.section.force_first_sample)
        ]
    ] = Field(False, description="No samples before the first step.")
    force_first_sample: Harmless[
        Annotated[bool, OnlyWith("without `disable_sampling`", lambda context: not context.section.disable_sampling)]
    ] = Field(False, description="Also generate samples before the first step of a resumed run.")
    disable_sampling: Annotated[Harmless[bool], Shown(label="No samples")] = Field(
        False, description="No samples at all."
    )

    def validation_with(self, *, has_dataset: bool) -> ValidationConfig | None:
        """The settings of validation: those that are given, or, with a dataset for it, the defaults; None without."""
        return ValidationConfig() if self.validation_config is None and has_dataset else self.validation_config

    @property
    def warmup_steps(self) -> int:
        """Steps over which lr rises from 0."""
        return self.warmup_of(self.steps)

    @property
    def cooldown_steps(self) -> int:
        """Steps at the end of the run over which lr falls to 0."""
        return self.cooldown_of(self.steps)

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.min_denoising_steps > self.max_denoising_steps:
            raise ValueError(
                f"min_denoising_steps ({self.min_denoising_steps}) is above max_denoising_steps "
                f"({self.max_denoising_steps}), which leaves no noise level to train"
            )
        if (mistake := self.mistake(steps=self.steps, lr=self.lr)) is not None:
            raise ValueError(mistake)
        return self

    @model_validator(mode="after")
    def _full_finetune_fits_together(self) -> TrainConfig:
        for key in ("full_finetune_weights", "fused_backward_pass"):
            if not self.full_finetune and getattr(self, key) != TrainConfig.model_fields[key].default:
                raise ValueError(f"`{key}` works only with `full_finetune: true`. Remove it")
        if self.full_finetune_weights != "fp32" and self.dtype != "bf16":
            raise ValueError(f"`full_finetune_weights: {self.full_finetune_weights}` needs `dtype: bf16`")
        if self.fused_backward_pass and self.gradient_accumulation > 1:
            raise ValueError(
                "`fused_backward_pass` applies each gradient at once, so none can be accumulated: set "
                "`gradient_accumulation: 1`, or remove `fused_backward_pass`"
            )
        if self.fused_backward_pass and self.max_grad_norm > 0:
            raise ValueError(
                "`fused_backward_pass` never has all gradients at once, so `max_grad_norm` cannot clip their norm: set "
                "`max_grad_norm: 0`, or remove `fused_backward_pass`"
            )
        return self
