"""FLUX.2's linear layers by all their names: which can have LoRA, and how other programs' LoRA files spell them.

The format `bfl` uses the names of the released single file, `diffusion_model.<name>.lora_A/B.weight`, with alpha / rank
folded into B and no alpha tensors: diffusers, ai-toolkit and every version of ComfyUI read it. `diffusers` uses that
library's names (ComfyUI reads them since 2026). `kohya` is the spelling of sd-scripts and musubi-tuner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from diffusers import Flux2Transformer2DModel
from torch import Tensor

from toolkit.errors import UserError
from toolkit.lora.update import LayerLocation, SizedTarget, Update, kohya_pairs, named_pairs, split, swap_halves
from toolkit.model_size import TransformerSize
from toolkit.models.base_model import LoraTarget

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
# diffusers' names once it has fused q, k and v, as programs that train with it then write them.
FUSED = {"attn.to_qkv": "img_attn.qkv", "attn.to_added_qkv": "txt_attn.qkv"}
# Layers outside the blocks.
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
# Only trained if the job, or the file it starts from, names it: the two layouts store its halves in opposite order, and
# diffusers' LoRA converter does not swap them. ComfyUI and ai-toolkit read the released name correctly.
FINAL_MODULATION = ("final_layer.adaLN_modulation.1", "norm_out.linear")
OPTIONAL = LoraTarget(FINAL_MODULATION[0], FINAL_MODULATION[1:], is_optional=True)
BLOCK_LISTS = ["double_blocks", "single_blocks"]

_BLOCK_NAMES = {
    "double_blocks": "double_blocks",
    "transformer_blocks": "double_blocks",
    "single_blocks": "single_blocks",
    "single_transformer_blocks": "single_blocks",
}
_IN_BLOCK = re.compile(rf"({'|'.join(_BLOCK_NAMES)})_(\d+)_(.+)")
# Layers outside the blocks that diffusers reads from a kohya file; it drops all others with a warning.
_KOHYA_OUTER = ("img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear")


def targets(transformer: Flux2Transformer2DModel) -> list[LoraTarget]:
    """Every linear layer that may have LoRA: 8 per double block, 2 per single block, then those outside the blocks."""
    blocks = (len(transformer.transformer_blocks), len(transformer.single_transformer_blocks))
    return _targets(*blocks, has_guidance=transformer.config.guidance_embeds)


def targets_of_size(size: TransformerSize) -> list[SizedTarget]:
    """The result of `targets`, plus `OPTIONAL`, for a transformer of this size, without loading it."""
    double, single = (block.count for block in size.blocks)
    named = _targets(double, single, has_guidance=len(size.outer_linears) == len(OUTER))
    sized = [
        SizedTarget(t.name, t.modules, t.is_optional, *linear)
        for t, linear in zip(named, size.lora_linears, strict=True)
    ]
    optional = SizedTarget(OPTIONAL.name, OPTIONAL.modules, True, size.hidden_size, 2 * size.hidden_size)
    return [*sized, optional]


def _targets(num_double: int, num_single: int, *, has_guidance: bool) -> list[LoraTarget]:
    found = [
        LoraTarget(f"double_blocks.{i}.{name}", tuple(f"transformer_blocks.{i}.{layer}" for layer in layers))
        for i in range(num_double)
        for name, layers in DOUBLE_BLOCK.items()
    ]
    found += [
        LoraTarget(f"single_blocks.{i}.{name}", tuple(f"single_transformer_blocks.{i}.{layer}" for layer in layers))
        for i in range(num_single)
        for name, layers in SINGLE_BLOCK.items()
    ]
    found += [LoraTarget(name, layers) for name, layers in OUTER.items() if has_guidance or "guidance" not in name]
    return found


def locate(name: str) -> LayerLocation | None:
    """Find a layer by its name in the released or diffusers' layout, dotted or with underscores."""
    name = name.replace(".", "_")
    if match := _IN_BLOCK.fullmatch(name):
        blocks, index, layer = match.groups()
        blocks = _BLOCK_NAMES[blocks]
        inner = _INNER[blocks].get(layer)
        return inner and LayerLocation(f"{blocks}.{index}.{inner.target}", inner.part, inner.num_parts)
    released, ours = (layer.replace(".", "_") for layer in FINAL_MODULATION)
    if name in (released, ours):
        return LayerLocation(FINAL_MODULATION[0], is_swapped=name == ours)
    return _OUTER.get(name)


def layers_of(target: str) -> tuple[str, ...]:
    """diffusers' names of the layers that a weight of the released model fuses or renames."""
    if target == FINAL_MODULATION[0]:
        return FINAL_MODULATION[1:]
    if target in OUTER:
        return OUTER[target]
    blocks, index, layer = target.split(".", 2)
    if blocks == "double_blocks":
        return tuple(f"transformer_blocks.{index}.{name}" for name in DOUBLE_BLOCK[layer])
    return tuple(f"single_transformer_blocks.{index}.{name}" for name in SINGLE_BLOCK[layer])


def write(updates: Mapping[str, Update], file_format: str) -> dict[str, Tensor]:
    """The tensors of a LoRA file.

    Args:
        updates: the update of each layer, by its name in the released model.
        file_format: a key of `FORMATS`.

    Raises:
        UserError: programs that read this format would misread or ignore one of the layers.
    """
    return FORMATS[file_format](updates)


def _bfl(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return named_pairs(updates, "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight")


def _diffusers(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    named: dict[str, Update] = {}
    for target, update in updates.items():
        layers = layers_of(target)
        if target == FINAL_MODULATION[0]:
            named[layers[0]] = Update(update.a, swap_halves(update.b))
        else:
            parts = split(update, len(layers)) if len(layers) > 1 else [update]
            named |= {layer: part for layer, part in zip(layers, parts, strict=True) if part is not None}
    return named_pairs(named, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight")


def _kohya(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    blocks = tuple(f"{name}." for name in BLOCK_LISTS)
    lost = [target for target in updates if not target.startswith(blocks) and target not in _KOHYA_OUTER]
    if lost:
        raise UserError(
            f"{lost[0]}{f' and {len(lost) - 1} more' if lost[1:] else ''}: cannot be written as `kohya`, because "
            "diffusers ignores it in such a file. Write the file as `bfl`, which supports every layer (from "
            "`diffusers` files, ComfyUI ignores modulation and time embedding), or leave the layer out "
            "(network.network_kwargs.ignore_if_contains)."
        )
    return kohya_pairs(updates)


FORMATS = {"bfl": _bfl, "diffusers": _diffusers, "kohya": _kohya}


def _locations(table: Mapping[str, tuple[str, ...]]) -> dict[str, LayerLocation]:
    """Location of each layer, by every name that it has, with underscores."""
    locations = {target.replace(".", "_"): LayerLocation(target) for target in table}
    for target, layers in table.items():
        for part, layer in enumerate(layers):
            locations[layer.replace(".", "_")] = LayerLocation(target, part, len(layers))
    return locations


_INNER = {"double_blocks": _locations(DOUBLE_BLOCK), "single_blocks": _locations(SINGLE_BLOCK)}
_INNER["double_blocks"] |= {name.replace(".", "_"): LayerLocation(target) for name, target in FUSED.items()}
_OUTER = _locations(OUTER)
