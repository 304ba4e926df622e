"""FLUX.2's LoRA: which linear layers carry it, and what the file calls them.

A file uses the names of the released single-file model, `diffusion_model.<name>.lora_A/B.weight`, with alpha / rank
folded into B and no alpha of its own: the one layout that diffusers, ComfyUI and ai-toolkit all read.
"""

from __future__ import annotations

import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor

from toolkit.errors import UserError
from toolkit.models.base_model import LoraTarget

FILE_PREFIX = "diffusion_model."
READABLE_PREFIXES = ("diffusion_model.", "transformer.", "base_model.model.")

# Released name inside a block -> layers of the diffusers model that it fuses or renames.
DOUBLE_BLOCK = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.linear_in",),
    "img_mlp.2": ("ff.linear_out",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.linear_in",),
    "txt_mlp.2": ("ff_context.linear_out",),
}
SINGLE_BLOCK = {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)}
# Outside the blocks. The final layer's modulation is left out on purpose: its two halves are swapped between the
# layouts, and diffusers' LoRA converter does not swap them back.
OUTER = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_guidance_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_guidance_embed.timestep_embedder.linear_2",),
    "guidance_in.in_layer": ("time_guidance_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_guidance_embed.guidance_embedder.linear_2",),
    "double_stream_modulation_img.lin": ("double_stream_modulation_img.linear",),
    "double_stream_modulation_txt.lin": ("double_stream_modulation_txt.linear",),
    "single_stream_modulation.lin": ("single_stream_modulation.linear",),
    "final_layer.linear": ("proj_out",),
}
BLOCK_LISTS = ["double_blocks", "single_blocks"]


def targets(transformer: Flux2Transformer2DModel) -> list[LoraTarget]:
    """Every linear layer that may carry LoRA: 8 per double block, 2 per single block, then the ones outside."""
    found = [
        LoraTarget(f"double_blocks.{i}.{name}", tuple(f"transformer_blocks.{i}.{layer}" for layer in layers))
        for i in range(len(transformer.transformer_blocks))
        for name, layers in DOUBLE_BLOCK.items()
    ]
    found += [
        LoraTarget(f"single_blocks.{i}.{name}", tuple(f"single_transformer_blocks.{i}.{layer}" for layer in layers))
        for i in range(len(transformer.single_transformer_blocks))
        for name, layers in SINGLE_BLOCK.items()
    ]
    has_guidance = transformer.config.guidance_embeds
    found += [LoraTarget(name, layers) for name, layers in OUTER.items() if has_guidance or "guidance" not in name]
    return found


def to_file(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of our targets to keys of the file."""
    return {f"{FILE_PREFIX}{key}": tensor for key, tensor in state_dict.items()}


def from_file(state_dict: dict[str, Tensor], known: list[LoraTarget]) -> dict[str, Tensor]:
    """Keys of a LoRA file to keys of our targets; an `.alpha` beside a pair is folded into B.

    Raises:
        UserError: no key, or only some of the keys, belong to this model.
    """
    names = {target.name for target in known}
    result: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    strange: list[str] = []
    for key, tensor in state_dict.items():
        bare = next((key.removeprefix(p) for p in READABLE_PREFIXES if key.startswith(p)), key)
        name, _, part = bare.rpartition(".lora_") if ".lora_" in bare else (bare.removesuffix(".alpha"), "", "alpha")
        part = {"A.weight": "A", "B.weight": "B", "down.weight": "A", "up.weight": "B"}.get(part, part)
        if name not in names or part not in ("A", "B", "alpha"):
            strange.append(key)
        elif part == "alpha":
            alphas[name] = float(tensor)
        else:
            result[f"{name}.lora_{part}.weight"] = tensor
    if strange:
        shown = ", ".join(strange[:3])
        raise UserError(
            f"{len(strange)} of {len(state_dict)} keys do not belong to this model, such as {shown}. "
            f"Expected keys like `{FILE_PREFIX}{known[0].name}.lora_A.weight`."
        )
    for name, alpha in alphas.items():
        rank = result[f"{name}.lora_A.weight"].shape[0]
        result[f"{name}.lora_B.weight"] = result[f"{name}.lora_B.weight"] * (alpha / rank)
    return result


def swap_halves(tensor: Tensor) -> Tensor:
    """Scale and shift of the final modulation stand in opposite order in the two layouts."""
    first, second = tensor.chunk(2, dim=0)
    return torch.cat([second, first], dim=0)
