"""What a model says of itself before it is loaded: plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from toolkit.extension import ROOTS, Broken, Package, Root, attempt, exported, find_packages, import_package
from toolkit.model_size import ModelSize


@dataclass(frozen=True)
class ReferenceLimits:
    """Which reference images a model takes, and how large it sees them.

    Attributes:
        min_side_px: smaller images are refused.
        max_aspect: long side over short side; longer images are refused.
        max_area_px: pixels of a single reference; larger ones are scaled down.
        max_area_each_px: pixels of each of several references.
        max_count: references of one picture.
    """

    min_side_px: int = 64
    max_aspect: float = 8.0
    max_area_px: int = 2024 * 2024
    max_area_each_px: int = 1024 * 1024
    max_count: int = 10


@dataclass(frozen=True)
class Sign:
    """By what the transformer of a variant is told from that of the weights to train, whatever its place is called.

    Attributes:
        says: the same for users, such as "have no guidance embedding".
        config: entry of its `config.json`, with the value there.
        absent: end of the name of a tensor that only the weights to train have, in a file of the released layout.
        present: end of the name of one that both have.
    """

    says: str
    config: tuple[str, Any]
    absent: str
    present: str


@dataclass(frozen=True)
class Variant:
    """Released weights of an arch that are used in another way than the ones to train, such as distilled ones.

    Attributes:
        label: the name people know.
        names: hub ids without owner and file names without extension, as `plain_name` of
            `toolkit.config.compat.released` has them.
        advice: why to train something else, and what.
        consent: key of `model.model_kwargs`; true there says that the user knows the advice.
        defaults: job settings that suit it, above the card's.
        index_key: entry of `model_index.json` that is true in folders that hold such weights; None if there is none.
        remedy: key of `model` that makes their training sound: with it there is nothing to advise.
        lacks: capabilities of the card that they do not have.
        sign: None if a file does not show that it is one.
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


@dataclass(frozen=True)
class ModelCard:
    """One arch. Every front end, check and table is made from these.

    Attributes:
        arch: the name in job files (`model.arch`).
        family: archs that share one code base.
        label: the name people know.
        summary: one sentence: what it is good for.
        source: hub id, or a folder of this repository, that `name_or_path` usually names.
        license: short name of the licence of the weights.
        is_gated: the hub asks to accept the licence first.
        divisor_px: image sides are multiples of this.
        num_parameters: of the transformer; 0 if unknown.
        prompt_embeds_shape: (L, D) of an encoded prompt; zeros if unknown.
        size: of its parts; None if unknown, and then no memory plan is made.
        capabilities: what it can do beyond text to image: `true_cfg` (a negative prompt works), `guidance_embed`,
            `guidance_bypass` (it can do without that embedding in training),
            `references` (takes reference images), `assistant_lora` (takes `model.assistant_lora_path`). A limit:
            `fixed_guidance`, samples are drawn with guidance 1.
        reference_limits: which images it takes as references, if it takes any.
        defaults: job settings that suit it, by section; they stand below what the job file says.
        notes: what a user should know before training it.
        names: of the released weights to train, as in `Variant`.
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
    size: ModelSize | None = None
    capabilities: frozenset[str] = frozenset()
    reference_limits: ReferenceLimits = ReferenceLimits()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class KnownModels:
    """Cards and the packages that hold the models, both by arch, and what had to be skipped to find them."""

    cards: Mapping[str, ModelCard]
    packages: Mapping[str, Package]
    broken: tuple[Broken, ...]


def find_cards() -> dict[str, ModelCard]:
    """The card of every arch that a job file may name. Where two models have the same arch, the user's stands."""
    return dict(read_cards().cards)


@cache
def read_cards(roots: tuple[Root, ...] = ROOTS) -> KnownModels:
    """The `CARDS` of every `card.py`, plus a bare card for each class of a user's package that comes without one.

    Only such a user's package may load torch here; our own all have cards.
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
