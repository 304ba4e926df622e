"""Where the components of FLUX.2 are, in each of the layouts that people have."""

from __future__ import annotations

from pathlib import Path

from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.errors import UserError
from toolkit.weights.layouts import TENSORS, ComponentFiles, NotHereError, find_component

# As released, first those to train. Their names in 8 bits end in -fp8.
_TRANSFORMERS = {
    "flux2": ("flux2-dev",),
    "flux2_klein_4b": ("flux-2-klein-base-4b", "flux-2-klein-4b"),
    "flux2_klein_9b": ("flux-2-klein-base-9b", "flux-2-klein-9b", "flux-2-klein-9b-kv"),
}
_OWN_KEYS = {
    "transformer": "model.model_paths.transformer",
    "vae": "model.vae_path",
    "text_encoder": "model.te_name_or_path",
    "tokenizer": "model.te_name_or_path",
}
_VAES = ("ae.safetensors", "flux2-vae.safetensors", "full_encoder_small_decoder.safetensors")


def single_files(arch: str, component: str) -> tuple[str, ...]:
    """Names of a component's released single files, best first; none if it is not released as one."""
    if component == "vae":
        return _VAES
    if component != "transformer":
        return ()
    stems = _TRANSFORMERS.get(arch) or tuple(stem for stems in _TRANSFORMERS.values() for stem in stems)
    return tuple(f"{stem}{suffix}.safetensors" for suffix in ("", "-fp8") for stem in stems)


def find(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles:
    """The files of a component.

    A place of its own in the job (`vae_path`, `te_name_or_path`, `model_paths`) always wins. What a single file or a
    folder of single files does not hold comes from the hub repository of the model's card.

    Args:
        config: the `model` section.
        card: of its arch.
        component: `transformer`, `vae`, `text_encoder` or `tokenizer`.

    Raises:
        UserError: see `toolkit.weights.layouts.find_component`.
    """
    found = find_local(config, card, component)
    if found is not None:
        return found
    own = config.place_of(component)
    place = own or config.name_or_path
    if not Path(place).expanduser().exists():
        try:
            return _look(config, card, component, place)
        except NotHereError:
            if own is not None or component == "transformer" or place == card.source:
                raise
    return _from_the_card(config, card, component)


def find_local(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles | None:
    """As `find`, without the network; None for what is on the hub."""
    own = config.place_of(component)
    place = Path(own or config.name_or_path).expanduser()
    if not place.exists():
        return None
    if own is None and component != "transformer" and place.suffix in TENSORS:
        names = single_files(card.arch, component)
        beside = next((place.with_name(name) for name in names if place.with_name(name).is_file()), None)
        return None if beside is None else _look(config, card, component, str(beside))
    try:
        return _look(config, card, component, str(place))
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


def _look(config: ModelConfig, card: ModelCard, component: str, place: str) -> ComponentFiles:
    if config.place_of(component) is None:
        key = "model.name_or_path"
    else:
        key = f"model.model_paths.{component}" if getattr(config.model_paths, component) else _OWN_KEYS[component]
    return find_component(place, component, single_files=single_files(card.arch, component), setting=key)


def _from_the_card(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles:
    key = _OWN_KEYS[component]
    try:
        return find_component(card.source, component, single_files=single_files(card.arch, component), setting=key)
    except UserError as error:
        raise UserError(
            f"{config.name_or_path} holds no {component}, and {card.source}, which does, cannot be used either. "
            f"{error} Or set {key} to a folder that has it."
        ) from error
