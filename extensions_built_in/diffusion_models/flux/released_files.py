"""FLUX.1's released files: their names, and the conversion of their tensor names in both directions."""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux.lora_names import SWAPPED, heights_of, layers_of, released_of
from toolkit.errors import UserError
from toolkit.lora.update import split_rows, swap_halves
from toolkit.weights.kl_vae import VAE_LAYOUTS
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.streaming import Convert, recognized, unchanged
from toolkit.weights.tensor_index import TensorIndex

# Released names first, then other common names of the same files.
_TRANSFORMERS = {
    "flux": ("flux1-dev", "flux1-schnell", "flux1-dev-fp8", "flux1-schnell-fp8"),
    "flux_kontext": ("flux1-kontext-dev", "flux1-dev-kontext", "flux1-dev-kontext_fp8_scaled"),
}
_VAES = ("ae.safetensors", "ae.sft", "flux-vae.safetensors")
# The released models' scheduler settings, for single files, which come without any.
SCHEDULER = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
SCHNELL_SCHEDULER = {**SCHEDULER, "shift": 1.0, "use_dynamic_shifting": False}
_BLOCKS = {"double_blocks": "transformer_blocks", "single_blocks": "single_transformer_blocks"}
# Norms inside a block; programs name their tensors `scale` or `weight`.
_NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_NORM = re.compile(r"(double_blocks|single_blocks)\.(\d+)\.(.+_norm)\.(?:scale|weight)")


def single_files(arch: str, component: str) -> tuple[str, ...]:
    """Names of a component's released single files, best first; empty if it is not released as one file."""
    if component == "vae":
        return _VAES
    if component != "transformer":
        return ()
    return tuple(f"{stem}.safetensors" for stem in _TRANSFORMERS[arch])


def transformer_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The transformer's tensors in a file, and their conversion to diffusers' names.

    Raises:
        UserError: the file contains another model or something else.
    """
    return recognized(index, _LAYOUTS) or _refuse(index.entries, files, "transformer")


def vae_tensors(index: TensorIndex, files: ComponentFiles) -> tuple[TensorIndex, Convert]:
    """The VAE's tensors in a file, and their conversion to diffusers' names.

    Raises:
        UserError: the file contains another VAE or something else.
    """
    found = recognized(index, VAE_LAYOUTS)
    if found is None:
        return _refuse(index.entries, files, "VAE")
    if "bn.running_mean" in found[0].entries:
        raise UserError(
            f"{files.path}: this is FLUX.2's VAE, whose file has the same name as FLUX.1's. Use ae.safetensors from "
            "black-forest-labs/FLUX.1-dev."
        )
    return found


def from_single_file(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Convert a tensor of the released file to the diffusers model; unknown tensors keep their names."""
    if match := _NORM.fullmatch(name):
        blocks, index, norm = match.groups()
        return {f"{_BLOCKS[blocks]}.{index}.{_NORMS.get(norm, norm)}.weight": tensor}
    released, _, kind = name.rpartition(".")
    try:
        layers = layers_of(released)
    except KeyError:
        return {name: tensor}
    if released == SWAPPED:
        return {f"{layers[0]}.{kind}": swap_halves(tensor)}
    heights = heights_of(layers)
    if tensor.shape[0] % sum(heights):
        return {name: tensor}
    parts = split_rows(tensor, heights)
    return {f"{layer}.{kind}": part for layer, part in zip(layers, parts, strict=True)}


def to_single_file(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_single_file`, for all tensors of the model."""
    result: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        layer, _, kind = name.rpartition(".")
        if re.search(r"\.norm_(added_)?[qk]$", layer):
            result[_released_norm(layer)] = tensor
            continue
        released = released_of(layer)
        layers = layers_of(released)
        if layer == layers[0]:
            whole = torch.cat([state_dict[f"{part}.{kind}"] for part in layers]) if len(layers) > 1 else tensor
            result[f"{released}.{kind}"] = swap_halves(whole) if released == SWAPPED else whole
    return result


def _released_norm(layer: str) -> str:
    ours, index, norm = layer.split(".", 2)
    blocks = next(released for released, name in _BLOCKS.items() if name == ours)
    inner = [name for name, ours_ in _NORMS.items() if ours_ == norm]
    return f"{blocks}.{index}.{inner[0] if blocks == 'double_blocks' else inner[1]}.scale"


def _refuse(names: Collection[str], files: ComponentFiles, component: str) -> tuple[TensorIndex, Convert]:
    if any(".lora_" in name or ".lokr_" in name for name in names):
        what = "is a LoRA, not a model"
    elif any("double_stream_modulation_img" in name for name in names):
        what = "is a FLUX.2 model: set `arch: flux2`, or flux2_klein_4b or flux2_klein_9b"
    elif any(name.startswith(("encoder.block.", "text_model.")) for name in names):
        what = "is a text encoder: it belongs to model.te_name_or_path"
    else:
        what = f"has other tensors, such as {', '.join(list(names)[:3]) or 'none'}"
    raise UserError(
        f"{files.path}: contains no {component} of FLUX.1: it {what}. Give a released file, a ComfyUI version of one, "
        "or a folder in diffusers layout."
    )


# A tensor that only one layout has -> the conversion of that layout's names. FLUX.2 has none of these tensors.
_LAYOUTS: dict[str, Convert] = {
    "vector_in.in_layer.weight": from_single_file,
    "time_text_embed.text_embedder.linear_1.weight": unchanged,
}
