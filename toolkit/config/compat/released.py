"""Identifies which released weights a job names, from their names alone, before anything is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.cards import ModelCard, Sign, Variant
from toolkit.errors import UserError
from toolkit.files import read_safetensors_header
from toolkit.json_files import read_json

Finding = tuple[tuple[str, ...], str]
DISTILLED = "distilled"  # as `sample.model`: the distilled twin of the model that is trained
_TENSORS = ".safetensors"
_MAX_HEADERS = 16  # how many files of a folder have their headers read
# Suffixes of repositories and files that hold the same weights in another number format.
_FORMATS = re.compile(r"(-(fp8|fp8mixed|scaled|bf16|fp16|e4m3fn|nvfp4|mixed|diffusers))+$")


def plain_name(name_or_path: str) -> str:
    """Normalise a hub id, path or file name: `black-forest-labs/FLUX.2-klein-9B-fp8` -> `flux-2-klein-9b`."""
    last = name_or_path.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return _FORMATS.sub("", re.sub(r"[._]", "-", last.removesuffix(".safetensors")))


def variant_of(model: Mapping[str, Any], card: ModelCard) -> Variant | None:
    """The variant of the card that a `model` section names; what local files show outranks names.

    Args:
        model: the `model` section as written.
        card: the card of the section's arch.
    """
    source = _source(model)
    index = _read_json(Path(source).expanduser() / "model_index.json")
    for variant in card.variants:
        if variant.index_key is not None and variant.index_key in index:
            is_it = index[variant.index_key] is True
        else:
            shown = None if variant.sign is None else _shows(Path(source).expanduser(), variant.sign)
            is_it = _is_named(variant, source, card) if shown is None else shown
        if is_it:
            return variant
    return None


def card_of(model: Mapping[str, Any], card: ModelCard) -> ModelCard:
    """The card with the capabilities of the weights that a `model` section names.

    A variant's consent key counts as a capability, because the key has an effect only with those weights.
    """
    variant = variant_of(model, card)
    if variant is None:
        return card
    return replace(card, capabilities=card.capabilities - variant.lacks | {variant.consent})


def weights_of_samples(setting: str, card: ModelCard) -> str | None:
    """Hub id or path of the weights that `sample.model` names; None if it asks for a twin that the model lacks."""
    if setting != DISTILLED:
        return setting
    return None if card.twin is None else card.twin.source


def variant_of_samples(setting: str, card: ModelCard) -> Variant | None:
    """The variant whose steps and guidance suit what `sample.model` names; None for those of the card.

    Weights under a name that nobody knows count as distilled if the model has a distilled twin.
    """
    if setting.strip().lower() == DISTILLED:  # as written in the job
        return card.twin
    known = variant_of({"name_or_path": setting}, card)
    return card.twin if known is None and not _names_at(setting, card) & set(card.names) else known


def label_of(model: Mapping[str, Any], card: ModelCard) -> str:
    """The common name of the weights of a `model` section."""
    variant = variant_of(model, card)
    return card.label if variant is None else variant.label


def wrong_arch(model: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> list[Finding]:
    """The problem with `arch` if the name of the weights is known to belong to another arch."""
    source, own = _source(model), cards.get(str(model.get("arch")))
    if own is None or _names_at(source, own) & _names_of(own):
        return []
    for card in cards.values():
        if _names_at(source, card) & _names_of(card):
            return [(("model", "arch"), f"{source} is {card.label}: set `arch: {card.arch}`")]
    return []


def advice(model: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> list[Finding]:
    """The advice about the weights that the job names, unless the job turns it off."""
    card = cards.get(str(model.get("arch")))
    variant = variant_of(model, card) if card else None
    kwargs = model.get("model_kwargs")
    if variant is None or (isinstance(kwargs, dict) and kwargs.get(variant.consent) is True):
        return []
    if variant.remedy is not None and model.get(variant.remedy):
        return []
    key = "`model_kwargs: {" + variant.consent + ": true}`"
    what = f"this is {variant.label}"
    if variant.sign is not None and card is not None and not _is_named(variant, _source(model), card):
        what = f"these weights {variant.sign.difference}, like those of {variant.label}"
    return [(("model", "name_or_path"), f"{what}. {variant.advice} To train it anyway: {key}")]


def _source(model: Mapping[str, Any]) -> str:
    paths = model.get("model_paths")
    own = paths.get("transformer") if isinstance(paths, dict) else None
    return str(own or model.get("name_or_path") or "")


def _names_of(card: ModelCard) -> set[str]:
    return {*card.names, *(name for variant in card.variants for name in variant.names)}


def _names_at(source: str, card: ModelCard) -> set[str]:
    """Normalised names of the card's files in a local folder; if there are none, of `source` itself."""
    folder = Path(source).expanduser()
    inside = {plain_name(file.name) for file in folder.glob("*.safetensors")} if folder.is_dir() else set()
    return inside & _names_of(card) or {plain_name(source)}


def _is_named(variant: Variant, source: str, card: ModelCard) -> bool:
    names = _names_at(source, card)
    return bool(names.intersection(variant.names)) and not names.intersection(card.names)


def _shows(place: Path, sign: Sign) -> bool | None:
    """Whether local files have the sign; None if they cannot tell."""
    key, value = sign.config
    for config in (_read_json(place / "transformer" / "config.json"), _read_json(place / "config.json")):
        if key in config:
            return bool(config[key] == value)
    for file in [place] if place.suffix == _TENSORS else sorted(place.glob(f"*{_TENSORS}"))[:_MAX_HEADERS]:
        names = tuple(_tensor_names(file))
        if any(name.endswith(sign.present) for name in names):
            return not any(name.endswith(sign.absent) for name in names)
    return None


def _tensor_names(file: Path) -> Iterable[str]:
    try:
        return read_safetensors_header(file)
    except (OSError, ValueError, RecursionError):
        return ()  # loading the file reports what is wrong with it


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path)
    except UserError:
        return {}  # loading the folder reports what is wrong with it
