"""Where the components of FLUX.2 are: the names of its released files."""

from __future__ import annotations

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer")
# As released, first those to train. Their names in 8 bits end in -fp8.
_TRANSFORMERS = {
    "flux2": ("flux2-dev",),
    "flux2_klein_4b": ("flux-2-klein-base-4b", "flux-2-klein-4b"),
    "flux2_klein_9b": ("flux-2-klein-base-9b", "flux-2-klein-9b"),
    "flux2_klein_9b_kv": ("flux-2-klein-9b-kv",),
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
