"""`sample`: images generated during training to show its progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from toolkit.cards import ModelCard
from toolkit.choice import Spellings
from toolkit.config.adapter import AdapterConfig
from toolkit.config.paths import ExistingFolder, TwinWeights
from toolkit.config.remarks import KeyContext, Notice, OnlyWith
from toolkit.config.sample_prompt import GUIDED, WITH_ADAPTER, SamplePrompt
from toolkit.config.seed import DrawSeed
from toolkit.section import Section, Shown


def _false_is_empty(value: Any) -> Any:
    return "" if value is False else value


def _as_entries(value: Any) -> Any:
    return (
        [{"prompt": entry} if isinstance(entry, str) else entry for entry in value]
        if isinstance(value, list)
        else value
    )


Prompts = Annotated[
    tuple[SamplePrompt, ...], BeforeValidator(_as_entries, json_schema_input_type=list[str | SamplePrompt])
]


def _is_avoided(context: KeyContext) -> bool:
    section = context.section
    entries = [entry for entry in section.samples or section.prompts if entry.neg is None]
    scales = [section.guidance_scale if entry.guidance_scale is None else entry.guidance_scale for entry in entries]
    return context.can("true_cfg") and (not scales or max(scales) > 1)


def _is_repeated(context: KeyContext) -> bool:
    return not context.is_within("first_sample")


_NOT_FIRST = OnlyWith("in `sample` only: `first_sample` is drawn once, before the first step", _is_repeated)

_SOMETHING_DRAWN = OnlyWith("with prompts to draw", lambda context: bool(context.section.items()))


@dataclass(frozen=True)
class SampleItem:
    """One image to generate, with all settings resolved.

    Attributes:
        references: paths of its reference images.
        views: positions of adapters in the job's list, each with the image that it sees.
        controls: paths of its control pictures.
    """

    prompt: str
    neg: Annotated[str, Shown(label="Negative prompt")]
    width: int
    height: int
    seed: int
    guidance_scale: Annotated[float, Shown(label="Guidance")]
    sample_steps: Annotated[int, Shown(label="Denoising steps")]
    network_multiplier: Annotated[float, Shown(label="Network strength")]
    adapter_conditioning_scale: Annotated[float, Shown(label="Adapter strength")] = 1.0
    references: tuple[Path, ...] = ()
    views: tuple[tuple[int, Path], ...] = ()
    controls: tuple[Path, ...] = ()

    def with_controls(self, count: int) -> SampleItem:
        """The sample with its first `count` images as controls instead of references."""
        return replace(self, references=self.references[count:], controls=self.references[:count])

    def negative_prompt(self, card: ModelCard) -> str | None:
        """The negative prompt of a model with this card; None if it takes none."""
        return self.neg if "true_cfg" in card.capabilities and self.guidance_scale > 1 else None

    def prompts(self, card: ModelCard) -> tuple[str, ...]:
        """The texts that are encoded to draw the sample with a model of this card."""
        negative = self.negative_prompt(card)
        return (self.prompt,) if negative is None else (self.prompt, negative)


_OF_IMAGES = ("references", "views", "controls")
INHERITED = tuple(key for key in SampleItem.__annotations__ if key not in ("prompt", "seed", *_OF_IMAGES))


def _lacks_references(context: KeyContext) -> str | None:
    process = context.process
    are_shown = any(item.references for item in context.section.items())
    if are_shown or process.train.disable_sampling or not any(dataset.control_folders for dataset in process.datasets):
        return None
    if process.control_adapter is not None:
        return "none of the samples has control pictures: the adapter will be off in them. Give them `ctrl_img`"
    return (
        "none of the samples has a reference image, but the datasets do: the samples will be drawn from text alone and "
        "will not show the edit that is trained. Give them `ctrl_img`"
    )


def _lacks_views(context: KeyContext) -> str | None:
    process = context.process
    blind = [one.type for one in process.adapter if one.choice.reads == "view" and not one.test_img_path]
    if not blind or process.train.disable_sampling or any(item.references for item in context.section.items()):
        return None
    return (
        f"none of the samples has an image for the `{blind[0]}` adapter, so it is off in all of them. Give them "
        "`ctrl_img`, or set `adapter.test_img_path`"
    )


class SampleConfig(Section):
    """`sample`: when samples are generated, and which."""

    sample_every: Annotated[int, _NOT_FIRST, Shown(level="basic", unit="steps")] = Field(
        250, ge=0, description="Steps between samples. 0: only before the first and after the last step."
    )
    sample_start_step: Annotated[
        int,
        _NOT_FIRST,
        OnlyWith("with a `sample_every` above 0", lambda context: context.section.sample_every > 0),
        Shown(label="First sample at", level="expert", unit="steps"),
    ] = Field(0, ge=0, description="First step to sample at, apart from the samples before training.")
    samples: Annotated[Prompts, Notice(_lacks_views), Notice(_lacks_references)] = Field(
        (), description="What to generate: prompts, each optionally with its own settings."
    )
    prompts: Annotated[
        Prompts,
        OnlyWith("without `samples`", lambda context: not context.section.samples),
        Notice(_lacks_views),
        Notice(_lacks_references),
        Shown(level="basic", widget="prompts"),
    ] = Field((), description="Short form of `samples`: each prompt may end with flags such as `--w 512 --seed 3`.")
    model: Annotated[
        TwinWeights | None, _NOT_FIRST, _SOMETHING_DRAWN, Shown(label="Draw on other weights", level="expert")
    ] = Field(
        None,
        min_length=1,
        description="Draw samples on other weights than those being trained, with the network applied to them. "
        "distilled: the distilled version of the model, which most people draw with; or a hub id, folder or file. Also "
        "applies to `first_sample`.",
    )
    neg: Annotated[
        str,
        BeforeValidator(_false_is_empty),
        OnlyWith("by models with true guidance, and with a `guidance_scale` above 1", _is_avoided),
        Shown(label="Negative prompt", needs="true_cfg"),
    ] = Field("", description="Negative prompt.")
    width: Annotated[int, Shown(unit="px")] = Field(
        1024, ge=16, le=8192, description="Width in pixels, rounded down to a size the model supports."
    )
    height: Annotated[int, Shown(unit="px")] = Field(
        1024, ge=16, le=8192, description="Height in pixels, rounded down to a size the model supports."
    )
    seed: Annotated[DrawSeed, Shown(widget="seed")] = Field(
        42, description="Seed of the initial noise; -1: a random one for each picture."
    )
    walk_seed: Annotated[bool, Shown(label="Different seed for each prompt")] = Field(
        False, description="Add the index of the prompt to the seed."
    )
    guidance_scale: Annotated[float, GUIDED, Shown(label="Guidance")] = Field(4.0, ge=0, description="Guidance scale.")
    sample_steps: Annotated[int, Shown(label="Denoising steps", unit="steps")] = Field(
        25, ge=1, description="Number of denoising steps."
    )
    network_multiplier: Annotated[float, Shown(label="Network strength")] = Field(
        1.0, description="Strength of the network."
    )
    adapter_conditioning_scale: Annotated[float, WITH_ADAPTER, Shown(label="Adapter strength")] = Field(
        1.0, description="Strength of the adapters."
    )
    batch_size: Annotated[
        Annotated[int, Field(ge=1)] | Annotated[Literal["auto"], Spellings({})], _NOT_FIRST, Shown(level="expert")
    ] = Field(
        "auto",
        description="Maximum number of samples of the same size, steps, guidance and strength that are drawn in one "
        "batch. auto: as many as are certain to fit on the GPU, at most 4; on a CPU one. Up to rounding, a picture is "
        "the same in any batch.",
    )
    format: Annotated[Literal["jpg", "png", "webp"], Spellings({"jpeg": "jpg"}), Shown(label="Image format")] = Field(
        "jpg", description="Image file format."
    )
    strip: Annotated[Literal["none", "webp", "gif"], Spellings({}), _NOT_FIRST, Shown(level="expert")] = Field(
        "none", description="Also write an animation for each prompt that shows its samples by training step."
    )

    score_with: Annotated[
        ExistingFolder | None,
        _NOT_FIRST,
        _SOMETHING_DRAWN,
        Shown(label="Score with an image encoder", level="expert", widget="folder"),
    ] = Field(
        None,
        description="Folder of an image encoder (SigLIP, SigLIP 2, DINOv2, DINOv3 or CLIP) that scores the samples of "
        "each round: similarity to the training images, prompt match (SigLIP), drift of other prompts.",
    )

    def items(self, trigger_word: str | None = None) -> tuple[SampleItem, ...]:
        """The images to generate, in order. If a trigger word is given, it replaces `[trigger]` in prompts."""
        items = []
        seed = self.seed
        for index, sample in enumerate(self.samples or self.prompts):
            if sample.seed is not None:
                seed = sample.seed  # later samples use this seed too, as in ai-toolkit
            elif self.walk_seed and self.seed >= 0:
                seed = self.seed + index
            items.append(self._item(sample, seed, trigger_word))
        return tuple(items)

    def _item(self, sample: SamplePrompt, seed: int, trigger_word: str | None) -> SampleItem:
        inherited = {key: getattr(self, key) for key in INHERITED}
        own = {key: getattr(sample, key) for key in ("prompt", *INHERITED) if getattr(sample, key) is not None}
        settings = {**inherited, **own, "seed": seed, "references": sample.references}
        if trigger_word is not None:
            settings["prompt"] = settings["prompt"].replace("[trigger]", trigger_word)
            settings["neg"] = settings["neg"].replace("[trigger]", trigger_word)
        return SampleItem(**settings)


def with_views(items: Iterable[SampleItem], adapters: Sequence[AdapterConfig]) -> tuple[SampleItem, ...]:
    """The samples of a job with the images that its adapters see.

    If an adapter sees images, the first `ctrl_img` of a sample is for the adapters, and only further ones are reference
    images of the model. A sample without one gets the adapter's `test_img_path` in turn; without those, the adapter is
    off.
    """
    seeing = [(index, adapter.test_images) for index, adapter in enumerate(adapters) if adapter.choice.reads == "view"]
    if not seeing:
        return tuple(items)
    found = []
    for number, item in enumerate(items):
        own, *further = item.references or (None,)
        views = tuple(
            (index, own or images[number % len(images)]) for index, images in seeing if own is not None or images
        )
        found.append(replace(item, references=tuple(further), views=views))
    return tuple(found)
