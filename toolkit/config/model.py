"""`model`: which model is trained, and how it is kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from toolkit.cards import ModelCard, find_cards
from toolkit.choice import ChoiceOf, Spellings
from toolkit.compute.attention_choices import ATTENTION_SETTINGS, NOT_HERE
from toolkit.compute.choices import COMPUTE_SETTINGS
from toolkit.config.paths import HubIdOrPath, UserPath
from toolkit.config.reading.known import Known
from toolkit.config.reading.suggest import did_you_mean
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.dtypes import Dtype
from toolkit.quantize.qtypes import QTYPES
from toolkit.section import Harmless, NameParts, SameAs, Section, Shown

Share = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]
Qtype = Annotated[str, ChoiceOf(QTYPES)]
ARCH_FLAGS = ("is_flux2", "is_flux")  # older files say `is_flux: true` where newer ones say `arch: flux`


def _is_chosen(context: KeyContext) -> bool:
    return context.section.memory == "auto"  # the plan may turn on quantizing and offloading


def _has_references(context: KeyContext) -> bool:
    process = context.process
    items = [item for sample in (process.sample, process.first_sample) if sample for item in sample.items()]
    return any(dataset.control_folders for dataset in process.datasets) or any(item.references for item in items)


def _is_distilled(context: KeyContext) -> bool:
    return context.can("train_distilled")


_FULL = OnlyWith(
    "with `train.full_finetune: true`; for a network it is `network.network_kwargs`",
    lambda context: bool(context.process.train.full_finetune),
)
_QUANTIZED = OnlyWith(
    "with `quantize: true`", lambda context: context.section.quantize or _is_chosen(context), is_switched=True
)
_TE_QUANTIZED = OnlyWith(
    "with `quantize_te: true`", lambda context: context.section.quantize_te or _is_chosen(context), is_switched=True
)
_OFFLOADED = OnlyWith(
    "with `layer_offloading: true`",
    lambda context: context.section.layer_offloading or _is_chosen(context),
    is_switched=True,
)
_SOMETHING_QUANTIZED = OnlyWith(
    "with `quantize` or `quantize_te`",
    lambda context: (
        context.section.quantize or context.section.quantize_te or context.value is False or _is_chosen(context)
    ),
)


class ModelKwargs(Section):
    """`model.model_kwargs`: options that only some models have."""

    match_target_res: Annotated[
        bool,
        OnlyWith("with reference images", _has_references),
        Shown(label="Match references to the image size", needs="references"),
    ] = Field(False, description="Scale reference images to the pixel count of the image, keeping their aspect ratio.")
    train_distilled: Harmless[
        Annotated[bool, OnlyWith("for weights that are known to be distilled", _is_distilled)]
    ] = Field(False, description="Train distilled weights, such as the four-step klein models, without a warning.")


class ModelPaths(Section):
    """`model.model_paths`: other locations of single components; each takes precedence over `name_or_path`."""

    transformer: HubIdOrPath | None = Field(None, description="File, folder or hub id of the transformer.")
    vae: HubIdOrPath | None = Field(None, description="File, folder or hub id of the VAE; same as `vae_path`.")
    text_encoder: HubIdOrPath | None = Field(
        None, description="File, folder or hub id of the text encoder; same as `te_name_or_path`."
    )
    tokenizer: HubIdOrPath | None = Field(
        None, description="Folder or hub id of the tokenizer. Unset: that of the text encoder, or else of the model."
    )


class ModelConfig(Section):
    """`model`: the base model."""

    aliases: ClassVar[Mapping[str, str]] = {"auto_memory": "layer_offloading"}

    name_or_path: Annotated[HubIdOrPath, Shown(label="Weights", level="basic")] = Field(
        min_length=1, description="Hub id, folder or single file of the model."
    )
    arch: Annotated[str, Shown(label="Model", level="basic", widget="arch")] = Field(
        description="Kind of model; `python run.py --list-models` lists them."
    )
    only_if_contains: Annotated[NameParts, _FULL, Shown(label="Train only these weights")] = Field(
        (), description="Full fine-tune: only weights whose dotted name contains one of these strings."
    )
    ignore_if_contains: Annotated[NameParts, _FULL, Shown(label="Leave these weights")] = Field(
        (), description="Full fine-tune: no weight whose dotted name contains one of these strings."
    )
    quantize: bool = Field(False, description="Store the transformer in fewer bits, see `qtype`.")
    quantize_te: bool = Field(
        default_factory=SameAs("quantize"), description="Store the text encoder in fewer bits, see `qtype_te`."
    )
    qtype: Annotated[Qtype, _QUANTIZED, Shown(label="Quantization format")] = Field(
        "qfloat8", description="Number format of the quantized transformer."
    )
    qtype_te: Annotated[Qtype, _TE_QUANTIZED, Shown(label="Text encoder format")] = Field(
        "qfloat8", description="Number format of the quantized text encoder."
    )
    compute: Annotated[str, ChoiceOf(COMPUTE_SETTINGS), Shown(label="Multiplication of frozen weights")] = Field(
        "bf16",
        description="Number format in which the transformer's frozen weights are multiplied, in training and in "
        "samples. bf16: in `train.dtype`. int8, fp8: in 8 bits, as `qtype: int8` or `float8` stores them; trained "
        "weights are computed exactly. auto: in 8 bits if weights and machine allow it.",
    )
    attention_backend: Harmless[
        Annotated[str, ChoiceOf(ATTENTION_SETTINGS, NOT_HERE), Shown(label="Attention kernel", level="expert")]
    ] = Field(
        "auto",
        description="Attention kernel of the transformer, in training and in samples. auto: on an NVIDIA GPU the "
        "fastest, measured once for each image size and remembered; a resumed run keeps it. native: torch's choice.",
    )
    compile: Annotated[bool, Shown(label="Compile the blocks", level="expert")] = Field(
        False,
        description="Let torch.compile fuse the small operations in the transformer's blocks, in training with a "
        "LoRA. All image sizes share the compiled code. Compiling takes up to some minutes in the first step, and "
        "seconds at later starts, since the code is cached next to the quantized weights. Needs a C++ compiler and, on "
        "a GPU, Triton. The last digits of numbers change.",
    )
    quantize_cache: Harmless[
        Annotated[bool | UserPath, _SOMETHING_QUANTIZED, Shown(label="Keep quantized weights", level="expert")]
    ] = Field(
        True,
        description="Cache quantized weights on disk for later starts, in ~/.cache or in the folder given here.",
    )
    low_vram: Annotated[Harmless[bool], Shown(label="Save GPU memory")] = Field(
        False,
        description="Save GPU memory at the cost of speed: weights are quantized on the CPU, samples above 1024 x 1024 "
        "pixels are decoded in tiles, and a text encoder that does not fit is streamed from RAM.",
    )
    # What it chooses is in other keys.
    memory: Harmless[
        Annotated[Annotated[Literal["auto"], Spellings({})] | None, Shown(label="Memory plan", level="basic")]
    ] = Field(
        None,
        description="auto: the memory plan chooses quantization and offloading for this GPU, except for keys that are "
        "set. `--check` shows what it chooses.",
    )
    layer_offloading: Harmless[bool] = Field(
        False, description="Keep frozen layers in RAM and stream them to the GPU just before they are used."
    )
    layer_offloading_transformer_percent: Harmless[
        Annotated[Share, _OFFLOADED, Shown(label="Share of the transformer to offload")]
    ] = Field(
        1.0, description="Share of the transformer's blocks to stream, 0 to 1; auto: only as much as is needed to fit."
    )
    layer_offloading_text_encoder_percent: Harmless[
        Annotated[Share, _OFFLOADED, Shown(label="Share of the text encoder to offload")]
    ] = Field(
        1.0, description="Share of the text encoder's layers to stream, 0 to 1; auto: only as much as is needed to fit."
    )
    activation_offloading: Harmless[bool] = Field(
        False, description="Move what gradient checkpointing stores to RAM between the forward and backward pass."
    )
    split_model_over_gpus: Harmless[Annotated[bool, Shown(label="Split over GPUs")]] = Field(
        False,
        description="Split the transformer's blocks over all GPUs that the job sees, for a model that does not fit on "
        "one of them. The GPUs work one after the other, so a step takes as long as on one.",
    )
    vae_path: Annotated[HubIdOrPath | None, Shown(label="VAE weights")] = Field(
        None, description="Hub id, folder or file of another VAE."
    )
    te_name_or_path: Annotated[HubIdOrPath | None, Shown(label="Text encoder weights")] = Field(
        None, description="Hub id, folder or file of another text encoder."
    )
    assistant_lora_path: Annotated[HubIdOrPath | None, Shown(label="Assistant LoRA")] = Field(
        None,
        description="A LoRA that is active in training, off in samples, and not saved: for distilled weights, a "
        "training adapter. FLUX.1 [schnell] needs one: ostris/FLUX.1-schnell-training-adapter.",
    )
    model_paths: Annotated[ModelPaths, Shown(label="Model: components from other places")] = Field(
        ModelPaths(), description="Other locations of single components."
    )
    vae_dtype: Dtype | None = Field(None, description="Precision of the VAE. Unset: `train.dtype`, or fp32 on a CPU.")
    te_dtype: Dtype | None = Field(None, description="Precision of the text encoder. Unset: `train.dtype`.")
    model_kwargs: Annotated[ModelKwargs, Shown(label="Model: special options")] = Field(
        ModelKwargs(), description="Options that only some models have."
    )

    @property
    def is_flux2(self) -> bool:
        """True for every FLUX.2 arch. Kept for users' scripts; our code asks for capabilities instead."""
        card = find_cards().get(self.arch)
        return card is not None and card.family == "flux2"

    @property
    def is_flux(self) -> bool:
        """True for every FLUX.1 arch. Kept for users' scripts; our code asks for capabilities instead."""
        card = find_cards().get(self.arch)
        return card is not None and card.family == "flux"

    def source_of(self, component: str) -> str | None:
        """The path or hub id that the job gives for one component, or None.

        Args:
            component: `transformer`, `vae`, `text_encoder` or `tokenizer`. A second encoder or tokenizer
                (`text_encoder_2`, `tokenizer_2`) comes from the same source as the first.
        """
        component, paths = component.removesuffix("_2"), self.model_paths
        if component == "tokenizer":
            return paths.tokenizer or self.source_of("text_encoder")
        shorthand = {"vae": self.vae_path, "text_encoder": self.te_name_or_path}.get(component)
        return getattr(paths, component) or shorthand

    @model_validator(mode="after")
    def _must_not_say_it_twice(self) -> Self:
        for key, component in (("vae_path", "vae"), ("te_name_or_path", "text_encoder")):
            short, long = getattr(self, key), getattr(self.model_paths, component)
            if short is not None and long is not None and short != long:
                raise ValueError(f"`{key}` and `model_paths.{component}` name different sources: keep one of them")
        return self

    def with_settings(self, settings: Mapping[str, Any]) -> ModelConfig:
        """A copy of the section with more keys set, validated as usual."""
        return ModelConfig.model_validate({**self.model_dump(exclude_unset=True), **settings})

    @field_validator("arch")
    @classmethod
    def _must_be_known(cls, arch: str, info: ValidationInfo[Known | None]) -> str:
        if info.context is not None and arch not in info.context.cards:
            known = sorted(info.context.cards)
            raise ValueError(f'no model "{arch}".{did_you_mean(arch, known)} Known: {", ".join(known)}')
        return arch


def normalise_arch(model: dict[str, Any], cards: Mapping[str, ModelCard]) -> str | None:
    """Normalise `arch` in place: strip a `:tag`, and set it from a flag such as `is_flux: true`.

    Returns:
        An error message if a flag and `arch` name different models, else None.
    """
    flags = [flag for flag in ARCH_FLAGS if model.pop(flag, None) is True]
    arch = model.get("arch")
    if isinstance(arch, str):
        arch = model["arch"] = arch.partition(":")[0].strip()
    for flag in flags:
        family = flag.removeprefix("is_")
        arch = model.setdefault("arch", family)
        if arch != family and (arch not in cards or cards[arch].family != family):
            return f"`{flag}: true` and `arch: {arch}` name different models: keep one of them"
    return None
