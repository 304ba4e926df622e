"""FLUX.2's released files: their names, and the conversion of their tensor names in both directions."""

from __future__ import annotations

from collections.abc import Collection

import torch
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.lora_names import DOUBLE_BLOCK, OUTER, SINGLE_BLOCK
from toolkit.errors import UserError
from toolkit.lora.update import swap_halves
from toolkit.weights.kl_vae import VAE_LAYOUTS
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.streaming import Convert, recognized, unchanged
from toolkit.weights.tensor_index import TensorIndex

# Released names, models for training first. Names of 8-bit files end in -fp8.
_TRANSFORMERS = {
    "flux2": ("flux2-dev",),
    "flux2_klein_4b": ("flux-2-klein-base-4b", "flux-2-klein-4b"),
    "flux2_klein_9b": ("flux-2-klein-base-9b", "flux-2-klein-9b"),
    "flux2_klein_9b_kv": ("flux-2-klein-9b-kv",),
}
_VAES = ("ae.safetensors", "flux2-vae.safetensors", "full_encoder_small_decoder.safetensors")
# Names of ComfyUI's files; Black Forest Labs releases folders only.
_QWEN3 = {size: tuple(f"qwen_3_{size}{suffix}" for suffix in ("", "_fp8mixed", "_fp8_scaled")) for size in ("4b", "8b")}
_TEXT_ENCODERS = {
    "flux2": ("mistral_3_small_flux2_bf16", "mistral_3_small_flux2_fp8"),
    "flux2_klein_4b": _QWEN3["4b"],
    "flux2_klein_9b": _QWEN3["8b"],
    "flux2_klein_9b_kv": _QWEN3["8b"],
}
# The scheduler settings of all released models, for single files, which come without any.
SCHEDULER = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
# Tensors that only one layout has.
_RELEASED_TRANSFORMER = "double_stream_modulation_img.lin.weight"
_DIFFUSERS_TRANSFORMER = "double_stream_modulation_img.linear.weight"
_NORMS = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
}
_SINGLE_NORMS = {"norm.query_norm.scale": "attn.norm_q.weight", "norm.key_norm.scale": "attn.norm_k.weight"}


def single_files(arch: str, component: str) -> tuple[str, ...]:
    """Names of a component's released single files, best first; empty if it is not released as one file."""
    if component == "vae":
        return _VAES
    if component == "text_encoder":
        return tuple(f"{stem}.safetensors" for stem in _TEXT_ENCODERS.get(arch, ()))
    if component != "transformer":
        return ()
    stems = _TRANSFORMERS.get(arch) or tuple(stem for stems in _TRANSFORMERS.values() for stem in stems)
    return tuple(f"{stem}{suffix}.safetensors" for suffix in ("", "-fp8") for stem in stems)


def transformer_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The transformer's tensors in a file, and their conversion to diffusers' names.

    Raises:
        UserError: the file contains another model or something else.
    """
    layouts = {_RELEASED_TRANSFORMER: _transformer_part, _DIFFUSERS_TRANSFORMER: unchanged}
    return recognized(index, layouts) or _refuse(index.entries, files, "transformer")


def vae_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The VAE's tensors in a file, and their conversion to diffusers' names.

    Raises:
        UserError: the file contains another VAE, only half of one, or something else.
    """
    found = recognized(index, VAE_LAYOUTS)
    if found is None:
        if any("conv_norm_out" in name or "up.0.block.0" in name for name in index.entries):
            raise UserError(
                f"{files.path}: contains only the decoder, but training also needs the encoder. Use a file with both, "
                "such as full_encoder_small_decoder.safetensors."
            )
        return _refuse(index.entries, files, "VAE")
    if "bn.running_mean" not in found[0].entries:
        raise UserError(
            f"{files.path}: not FLUX.2's VAE: the statistics of its latents (bn.running_mean) are missing. "
            "FLUX.1's file has the same name. Use ae.safetensors from black-forest-labs/FLUX.2-dev."
        )
    return found


def to_single_file(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of diffusers' Flux2Transformer2DModel to those of the released file; joins fused weights.

    The inverse of diffusers' `convert_flux2_transformer_checkpoint_to_diffusers`.

    Raises:
        AssertionError: a weight of the model does not exist in the released file.
    """
    rest = dict(state_dict)
    result: dict[str, Tensor] = {}

    def take(target: str, sources: tuple[str, ...]) -> None:
        if all(source in rest for source in sources):
            parts = [rest.pop(source) for source in sources]
            result[target] = torch.cat(parts, dim=0) if len(parts) > 1 else parts[0]

    for prefix, block, layers, norms in (
        ("double_blocks", "transformer_blocks", DOUBLE_BLOCK, _NORMS),
        ("single_blocks", "single_transformer_blocks", SINGLE_BLOCK, _SINGLE_NORMS),
    ):
        indices = {int(key.split(".")[1]) for key in state_dict if key.startswith(f"{block}.")}
        for i in sorted(indices):
            for name, sources in layers.items():
                take(f"{prefix}.{i}.{name}.weight", tuple(f"{block}.{i}.{source}.weight" for source in sources))
            for name, source in norms.items():
                take(f"{prefix}.{i}.{name}", (f"{block}.{i}.{source}",))
    for name, sources in OUTER.items():
        take(f"{name}.weight", tuple(f"{source}.weight" for source in sources))
    take("final_layer.adaLN_modulation.1.weight", ("norm_out.linear.weight",))
    modulation = result["final_layer.adaLN_modulation.1.weight"]
    result["final_layer.adaLN_modulation.1.weight"] = swap_halves(modulation)
    assert not rest, f"weights without a name in the released file: {sorted(rest)[:5]}"
    return result


def _transformer_part(name: str, tensor: Tensor) -> dict[str, Tensor]:
    try:
        return convert_flux2_transformer_checkpoint_to_diffusers({name: tensor})
    except KeyError:
        return {name: tensor}  # not a name of this model; reported when the names are compared with the model's


def _refuse(names: Collection[str], files: ComponentFiles, component: str) -> tuple[TensorIndex, Convert]:
    if any(".lora_" in name or ".lokr_" in name for name in names):
        what = "is a LoRA, not a model"
    elif any("img_mod.lin" in name or "norm1_context.linear" in name for name in names):
        what = "is a FLUX.1 model: set `arch: flux`, or flux_kontext"
    elif any(name.startswith(("model.layers.", "language_model.")) for name in names):
        what = "is a text encoder: it belongs to model.te_name_or_path"
    else:
        what = f"has other tensors, such as {', '.join(list(names)[:3]) or 'none'}"
    raise UserError(
        f"{files.path}: contains no {component} of FLUX.2: it {what}. Give a released file, a ComfyUI version of one, "
        "or a folder in diffusers layout."
    )
