"""Where the components of FLUX.2 are: the names of its released files."""

from __future__ import annotations

from toolkit.cards import ModelCard
from toolkit.config import ModelConfig
from toolkit.weights import sources
from toolkit.weights.layouts import ComponentFiles

# As released, first those to train. Their names in 8 bits end in -fp8.
_TRANSFORMERS = {
    "flux2": ("flux2-dev",),
    "flux2_klein_4b": ("flux-2-klein-base-4b", "flux-2-klein-4b"),
    "flux2_klein_9b": ("flux-2-klein-base-9b", "flux-2-klein-9b", "flux-2-klein-9b-kv"),
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
    """See `toolkit.weights.sources.find`."""
    return sources.find(config, card, component, single_files=single_files(card.arch, component))


def find_local(config: ModelConfig, card: ModelCard, component: str) -> ComponentFiles | None:
    """See `toolkit.weights.sources.find_local`."""
    return sources.find_local(config, card, component, single_files=single_files(card.arch, component))
