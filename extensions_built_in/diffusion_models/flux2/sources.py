"""Where the components of FLUX.2 are, in each of the layouts that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.config.model import ModelPaths
from toolkit.errors import UserError
from toolkit.weights.layouts import TENSORS, ComponentFiles, NotHereError, find_component, reach_component

# As released, first those to train. Their names in 8 bits end in -fp8.
_TRANSFORMERS = {
    "flux2": ("flux2-dev",),
    "flux2_klein_4b": ("flux-2-klein-base-4b", "flux-2-klein-4b"),
    "flux2_klein_9b": ("flux-2-klein-base-9b", "flux-2-klein-9b"),
    "flux2_klein_9b_kv": ("flux-2-klein-9b-kv",),
}
_OWN_KEYS = {
    "transformer": "model.model_paths.transformer",
    "vae": "model.vae_path",
    "text_encoder": "model.te_name_or_path",
    "tokenizer": "model.model_paths.tokenizer",
}
_VAES = ("ae.safetensors", "flux2-vae.safetensors", "full_encoder_small_decoder.safetensors")
# As ComfyUI's users have them; Black Forest Labs releases folders only.
_QWEN3 = {size: tuple(f"qwen_3_{size}{suffix}" for suffix in ("", "_fp8mixed", "_fp8_scaled")) for size in ("4b", "8b")}
_TEXT_ENCODERS = {
    "flux2": ("mistral_3_small_flux2_bf16", "mistral_3_small_flux2_fp8"),
    "flux2_klein_4b": _QWEN3["4b"],
    "flux2_klein_9b": _QWEN3["8b"],
    "flux2_klein_9b_kv": _QWEN3["8b"],
}
_COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Look(Protocol[T_co]):
    """`find_component`, or `reach_component` for what it would find."""

    def __call__(
        self, place: str, component: str, *, single_files: Sequence[str] = (), any_file: bool = True, setting: str
    ) -> T_co: ...


def single_files(arch: str, component: str) -> tuple[str, ...]:
    """Names of a component's released single files, best first; none if it is not released as one."""
    if component == "vae":
        return _VAES
    if component == "text_encoder":
        return tuple(f"{stem}.safetensors" for stem in _TEXT_ENCODERS.get(arch, ()))
    if component != "transformer":
        return ()
    stems = _TRANSFORMERS.get(arch) or tuple(stem for stems in _TRANSFORMERS.values() for stem in stems)
    return tuple(f"{stem}{suffix}.safetensors" for suffix in ("", "-fp8") for stem in stems)


def find(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles:
    """The files of a component.

    A place of its own in the job (`vae_path`, `te_name_or_path`, `model_paths`) always wins. What a single file or a
    folder of single files does not hold comes from the hub repository of the model's card. A tokenizer comes from where
    the text encoder is; if there is none, as beside a single file, from where it would be without a place for it.

    Args:
        config: the `model` section.
        card: of its arch.
        component: `transformer`, `vae`, `text_encoder` or `tokenizer`.

    Raises:
        UserError: see `toolkit.weights.layouts.find_component`.
    """
    return _find(config, card, component, find_component)


def check_reachable(config: ModelConfig, card: ModelCard) -> None:
    """Ask the hub about every repository that `find` would download from, and download nothing.

    Raises:
        UserError: one is absent, gated or out of reach, and what is needed of it is not in the local cache.
    """
    for component in _COMPONENTS:
        _find(config, card, component, reach_component)


def find_local(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles | None:
    """As `find`, without the network; None for what is on the hub."""
    own = config.place_of(component)
    place = Path(own or config.name_or_path).expanduser()
    if not place.exists():
        return None
    if own is None and component != "transformer" and place.suffix in TENSORS:
        names = single_files(card.arch, component)
        beside = next((place.with_name(name) for name in names if place.with_name(name).is_file()), None)
        return None if beside is None else _look(config, card, component, str(beside), find_component)
    try:
        return _look(config, card, component, str(place), find_component)
    except NotHereError:
        if own is not None or component == "transformer" or (place / "model_index.json").exists():
            raise
        return None


def _find(config: ModelConfig, card: ModelCard, component: str, look: _Look[T]) -> ComponentFiles | T:
    if component == "tokenizer" and config.model_paths.tokenizer is None and config.place_of("text_encoder"):
        return _tokenizer_of_encoder(config, card, look)
    found = find_local(config, card, component)
    if found is not None:
        return found
    own = config.place_of(component)
    place = own or config.name_or_path
    if not Path(place).expanduser().exists():
        try:
            return _look(config, card, component, place, look)
        except NotHereError:
            if own is not None or component == "transformer" or place == card.source:
                raise
    return _from_the_card(config, card, component, look)


def _tokenizer_of_encoder(config: ModelConfig, card: ModelCard, look: _Look[T]) -> ComponentFiles | T:
    place = str(config.place_of("text_encoder"))
    if Path(place).suffix not in TENSORS:
        try:
            return look(place, "tokenizer", single_files=(), setting=_OWN_KEYS["text_encoder"])
        except NotHereError:
            pass  # that of Mistral Small 3.2 has it in Mistral's own format only
    without = config.model_copy(update={"te_name_or_path": None, "model_paths": ModelPaths()})
    return _find(without, card, "tokenizer", look)


def find_scheduler(config: ModelConfig, card: ModelCard) -> ComponentFiles | None:
    """The scheduler's settings that came with the model; None for a single file or a folder of single files."""
    if Path(config.name_or_path).suffix in TENSORS:
        return None
    try:
        return find_component(config.name_or_path, "scheduler", setting="model.name_or_path")
    except NotHereError:
        return None


def _look(config: ModelConfig, card: ModelCard, component: str, place: str, look: _Look[T]) -> T:
    if config.place_of(component) is None:
        key = "model.name_or_path"
    else:
        key = f"model.model_paths.{component}" if getattr(config.model_paths, component) else _OWN_KEYS[component]
    # A folder of single files may hold the transformer alone.
    any_file = component == "transformer" or config.place_of(component) is not None
    names = single_files(card.arch, component)
    return look(place, component, single_files=names, any_file=any_file, setting=key)


def _from_the_card(config: ModelConfig, card: ModelCard, component: str, look: _Look[T]) -> T:
    key = _OWN_KEYS[component]
    try:
        names = single_files(card.arch, component)
        return look(card.source, component, single_files=names, any_file=False, setting=key)
    except UserError as error:
        raise UserError(
            f"{config.name_or_path} holds no {component}, and {card.source}, which does, cannot be used either. "
            f"{error} Or set {key} to a folder that has it."
        ) from error
