"""The transformer's weights between the names of the released single file and those of diffusers."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux.lora_keys import SWAPPED, heights_of, layers_of, released_of
from toolkit.lora.update import split_rows, swap_halves

_BLOCKS = {"double_blocks": "transformer_blocks", "single_blocks": "single_transformer_blocks"}
# Inside a block; programs call their tensors `scale` or `weight`.
_NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_NORM = re.compile(r"(double_blocks|single_blocks)\.(\d+)\.(.+_norm)\.(?:scale|weight)")


def from_single_file(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """What one tensor of the released file is in the diffusers model; one of another model keeps its name."""
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
    """The inverse of `from_single_file`, for the whole model."""
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
