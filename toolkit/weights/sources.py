"""Where the components of a model are: in a place of their own, beside the transformer, or where its card says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.weights.layouts import TENSORS, ComponentFiles, NotHereError, find_component

_OWN_KEYS = {
    "transformer": "model.model_paths.transformer",
    "vae": "model.vae_path",
    "text_encoder": "model.te_name_or_path",
    "tokenizer": "model.te_name_or_path",
}


def find(config: ModelConfig, card: ModelCard, component: str, *, single_files: Sequence[str]) -> ComponentFiles:
    """The files of a component.

    A place of its own in the job (`vae_path`, `te_name_or_path`, `model_paths`) always wins. What a single file or a
    folder of single files does not hold comes from the hub repository of the model's card.

    Args:
        config: the `model` section.
        card: of its arch.
        component: `transformer`, `vae`, `text_encoder`, `tokenizer`, or the second of these, such as `tokenizer_2`.
        single_files: names under which it is released as one file, best first; none if it never is.

    Raises:
        UserError: see `toolkit.weights.layouts.find_component`.
    """
    found = find_local(config, card, component, single_files=single_files)
    if found is not None:
        return found
    own = config.place_of(component)
    place = own or config.name_or_path
    if not Path(place).expanduser().exists():
        try:
            return _look(config, component, place, single_files)
        except NotHereError:
            if own is not None or component == "transformer" or place == card.source:
                raise
    return _from_the_card(config, card, component, single_files)


def find_local(
    config: ModelConfig, card: ModelCard, component: str, *, single_files: Sequence[str]
) -> ComponentFiles | None:
    """As `find`, without the network; None for what is on the hub."""
    own = config.place_of(component)
    place = Path(own or config.name_or_path).expanduser()
    if not place.exists():
        return None
    if own is None and component != "transformer" and place.suffix in TENSORS:
        beside = next((place.with_name(name) for name in single_files if place.with_name(name).is_file()), None)
        return None if beside is None else _look(config, component, str(beside), single_files)
    try:
        return _look(config, component, str(place), single_files)
    except NotHereError:
        if own is not None or component == "transformer" or (place / "model_index.json").exists():
            raise
        return None


def find_scheduler(config: ModelConfig, card: ModelCard) -> ComponentFiles | None:
    """The scheduler's settings that came with the model; None for a single file or a folder of single files."""
    if Path(config.name_or_path).suffix in TENSORS:
        return None
    try:
        return find_component(config.name_or_path, "scheduler", setting="model.name_or_path")
    except NotHereError:
        return None


def _look(config: ModelConfig, component: str, place: str, single_files: Sequence[str]) -> ComponentFiles:
    first = component.removesuffix("_2")
    if config.place_of(component) is None:
        key = "model.name_or_path"
    else:
        key = f"model.model_paths.{first}" if getattr(config.model_paths, first) else _OWN_KEYS[first]
    return find_component(place, component, single_files=single_files, setting=key)


def _from_the_card(config: ModelConfig, card: ModelCard, component: str, single_files: Sequence[str]) -> ComponentFiles:
    key = _OWN_KEYS[component.removesuffix("_2")]
    try:
        return find_component(card.source, component, single_files=single_files, setting=key)
    except UserError as error:
        raise UserError(
            f"{config.name_or_path} holds no {component}, and {card.source}, which does, cannot be used either. "
            f"{error} Or set {key} to a folder that has it."
        ) from error
