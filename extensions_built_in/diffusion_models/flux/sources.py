"""Where the components of FLUX.1 are: the names of its released files."""

from __future__ import annotations

COMPONENTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
# As released; some people's names for the same follow.
_TRANSFORMERS = {
    "flux": ("flux1-dev", "flux1-schnell", "flux1-dev-fp8", "flux1-schnell-fp8"),
    "flux_kontext": ("flux1-kontext-dev", "flux1-dev-kontext", "flux1-dev-kontext_fp8_scaled"),
}
_VAES = ("ae.safetensors", "ae.sft", "flux-vae.safetensors")


def single_files(arch: str, component: str) -> tuple[str, ...]:
    """Names of a component's released single files, best first; none if it is not released as one."""
    if component == "vae":
        return _VAES
    if component != "transformer":
        return ()
    return tuple(f"{stem}.safetensors" for stem in _TRANSFORMERS[arch])
