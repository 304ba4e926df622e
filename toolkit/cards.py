"""What is known about a model before it is loaded: plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from toolkit.extension import ROOTS, Broken, Package, Root, attempt, exported, find_packages, import_package
from toolkit.model_size import PIXELS, ModelSize


@dataclass(frozen=True)
class ReferenceLimits:
    """Which reference images a model accepts, and the size they are scaled to.

    Attributes:
        min_side_px: shortest side allowed; images with a shorter one are refused.
        max_aspect: largest ratio of the long to the short side; more elongated images are refused.
        max_area_px: largest area of a reference used alone; larger images are scaled down.
        max_area_each_px: largest area of each reference when there are several.
        max_count: largest number of references per image.
    """

    min_side_px: int = 64
    max_aspect: float = 8.0
    max_area_px: int = 2024 * 2024
    max_area_each_px: int = 1024 * 1024
    max_count: int = 10


@dataclass(frozen=True)
class Sign:
    """How the transformer of a variant differs from the weights to train, to recognise it under any name.

    Attributes:
        difference: in words for users, such as "have no guidance embedding".
        config: an entry of its `config.json` as (key, value).
        absent: suffix of the name of a tensor that only the weights to train have, in a file of the released layout.
        present: suffix of the name of a tensor that both have.
    """

    difference: str
    config: tuple[str, Any]
    absent: str
    present: str


@dataclass(frozen=True)
class Variant:
    """Released weights of an arch that are not the ones to train, such as distilled weights.

    Attributes:
        label: the name people know the weights by.
        names: hub ids without owner and file names without extension, normalised by
            `toolkit.config.compat.released.plain_name`.
        advice: why not to train these weights, and what to train instead.
        consent: key of `model.model_kwargs` that the user sets to true to train these weights despite the advice.
        defaults: job settings that suit these weights; they override the card's.
        index_key: entry of `model_index.json` that is true in a folder with these weights; None if there is none.
        remedy: key of `model` that makes training these weights sound, so that no advice is needed.
        lacks: capabilities of the card that these weights do not have.
        sign: how files with these weights can be recognised; None if they cannot.
        source: hub id of these weights, if LoRAs of the weights to train are meant to work on them too; empty if not.
    """

    label: str
    names: tuple[str, ...]
    advice: str
    consent: str
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    index_key: str | None = None
    remedy: str | None = None
    lacks: frozenset[str] = frozenset()
    sign: Sign | None = None
    source: str = ""


@dataclass(frozen=True)
class ModelCard:
    """One arch. Every front end, check and table is made from these cards.

    Attributes:
        arch: the name in job files (`model.arch`).
        family: name shared by all archs of one code base.
        label: the name people know the model by.
        summary: one sentence on what the model is good for.
        source: hub id, or folder of this repository, that `name_or_path` usually names.
        license: short name of the licence of the weights.
        is_gated: whether the licence must be accepted on the hub before downloading.
        divisor_px: number that every image side is a multiple of.
        num_parameters: number of weights in the transformer; 0 if unknown.
        prompt_embeds_shape: (L, D) of an encoded prompt; zeros if unknown.
        num_pooled_rows: how many of these L rows are not tokens, but a pooled vector.
        text_layer_width: numbers per row that the transformer's first layer for text gives, if the model can apply it
            apart (`BaseModel.load_text_layer`); 0 if not.
        size: sizes of the model's parts; None if unknown, in which case no memory plan is made.
        capabilities: what the model can do beyond text to image: `true_cfg` (negative prompts work),
            `guidance_embed` (has a guidance embedding), `guidance_bypass` (can be trained without that embedding),
            `references` (takes reference images), `assistant_lora` (takes `model.assistant_lora_path`),
            `context_parallel` (processes can share a sequence). One is a limit: `fixed_guidance` (samples are always
            drawn with guidance 1).
        num_heads: number of attention heads, which processes that share a sequence deal among them; 0 if unknown.
        reference_limits: which reference images the model accepts, if it takes any.
        defaults: job settings that suit the model, by section; the job file overrides them.
        notes: what a user should know before training the model.
        names: names of the released weights to train, normalised as in `Variant`.
        variants: other released weights of this arch.
    """

    arch: str
    family: str
    label: str
    summary: str
    source: str
    license: str
    is_gated: bool
    divisor_px: int
    num_parameters: int
    prompt_embeds_shape: tuple[int, int] = (0, 0)
    num_pooled_rows: int = 0
    text_layer_width: int = 0
    size: ModelSize | None = None
    capabilities: frozenset[str] = frozenset()
    num_heads: int = 0
    reference_limits: ReferenceLimits = ReferenceLimits()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()

    def text_shape(self, *, is_embedded: bool) -> tuple[int, int]:
        """(L, D) of an encoded prompt as it is kept: after the transformer's first layer for text, or before it."""
        length, width = self.prompt_embeds_shape
        return length, self.text_layer_width if is_embedded else width

    @property
    def twin(self) -> Variant | None:
        """The distilled weights that people draw with using LoRAs of the weights to train; None if there are none."""
        return next((variant for variant in self.variants if variant.source), None)

    def in_pixels(self, *, token_px: int) -> ModelCard:
        """The card of the model where it is trained on pixels, without its VAE.

        Args:
            token_px: side of the square of pixels that a token stands for.
        """
        size = self.size
        if size is not None:
            size = replace(size, vae=PIXELS, transformer=replace(size.transformer, px_per_token=token_px**2))
        return replace(self, divisor_px=token_px, size=size)


@dataclass(frozen=True)
class KnownModels:
    """The cards of all models and the packages they come from, both by arch, and the extensions that were skipped."""

    cards: Mapping[str, ModelCard]
    packages: Mapping[str, Package]
    broken: tuple[Broken, ...]


def find_cards() -> dict[str, ModelCard]:
    """The card of every arch that a job file may name. If two models have the same arch, the user's wins."""
    return dict(read_cards().cards)


@cache
def read_cards(roots: tuple[Root, ...] = ROOTS) -> KnownModels:
    """The `CARDS` of every `card.py`, plus a bare card for each model class of a user's package without a `card.py`.

    Importing such a package may load torch. All built-in models have cards.
    """
    cards: dict[str, ModelCard] = {}
    packages: dict[str, Package] = {}
    broken: list[Broken] = []
    for package in find_packages(roots):
        for card in attempt(_cards_of, package, broken) or ():
            if card.arch not in cards:
                cards[card.arch] = card
                packages[card.arch] = package
    return KnownModels(cards, packages, tuple(broken))


def _cards_of(package: Package) -> tuple[ModelCard, ...]:
    if package.has_card:
        return tuple(import_package(package, "card").CARDS)
    if package.is_built_in:
        return ()
    return tuple(_bare_card(model) for model in exported(package, "AI_TOOLKIT_MODELS"))


def _bare_card(model: type[Any]) -> ModelCard:
    summary = (model.__doc__ or "").strip().partition("\n")[0]
    return ModelCard(
        arch=model.arch,
        family=model.arch,
        label=model.arch,
        summary=summary or "From an extension without a card.",
        source="",
        license="unknown",
        is_gated=False,
        divisor_px=16,
        num_parameters=0,
    )
