"""FLUX.1's linear layers by all their names: which can have LoRA, and how other programs' LoRA files spell them.

As in ai-toolkit, LoRA is applied to each layer of the diffusers model: if the released model fuses several layers into
one matrix, each of them has its own update.

The format `diffusers` uses that library's names, `transformer.<layer>.lora_A/B.weight`, with alpha / rank folded into
B. ai-toolkit writes it; diffusers and ComfyUI read it. `kohya` is the spelling of sd-scripts, which both read, too.
`bfl` uses the names of the released single file, which ComfyUI reads but diffusers does not. The last two fuse q, k and
v: if these were trained separately, their ranks add up and the change stays the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from diffusers import FluxTransformer2DModel
from torch import Tensor

from toolkit.lora.update import (
    FusedLocation,
    LayerLocation,
    Location,
    SizedTarget,
    Update,
    kohya_pairs,
    named_pairs,
    swap_halves,
)
from toolkit.model_size import TransformerSize
from toolkit.models.base_model import LoraTarget

# Released name inside a block -> layers of the diffusers model that it fuses or renames.
DOUBLE_BLOCK = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
SINGLE_BLOCK = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
}
# More names in files, by the released block: diffusers' once it has fused q, k and v, then those of XLabs' trainer.
MORE_NAMES = {
    "double_blocks": {
        "attn.to_qkv": DOUBLE_BLOCK["img_attn.qkv"],
        "attn.to_added_qkv": DOUBLE_BLOCK["txt_attn.qkv"],
        "processor.qkv_lora1": DOUBLE_BLOCK["img_attn.qkv"],
        "processor.qkv_lora2": DOUBLE_BLOCK["txt_attn.qkv"],
        "processor.proj_lora1": DOUBLE_BLOCK["img_attn.proj"],
        "processor.proj_lora2": DOUBLE_BLOCK["txt_attn.proj"],
    },
    "single_blocks": {
        "attn.to_qkv": SINGLE_BLOCK["linear1"][:3],
        "processor.qkv_lora": SINGLE_BLOCK["linear1"][:3],
        "processor.proj_lora": SINGLE_BLOCK["linear2"],
    },
}
# Layers outside the blocks.
OUTER = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
# The two layouts store the halves of this layer's rows in opposite order.
SWAPPED = "final_layer.adaLN_modulation.1"
BLOCK_LISTS = ["transformer_blocks", "single_transformer_blocks"]

_RELEASED_BLOCKS = {
    "double_blocks": ("transformer_blocks", DOUBLE_BLOCK),
    "single_blocks": ("single_transformer_blocks", SINGLE_BLOCK),
}
# Relative number of rows of layers that are fused: the MLP of a single block is four times as wide as the model.
_HEIGHTS = {"proj_mlp": 4}
_IN_BLOCK = re.compile(rf"({'|'.join((*_RELEASED_BLOCKS, *BLOCK_LISTS))})_(\d+)_(.+)")


def targets(transformer: FluxTransformer2DModel) -> list[LoraTarget]:
    """Every linear layer: 14 per double block, 6 per single block, then those outside the blocks."""
    counts = tuple(len(transformer.get_submodule(blocks)) for blocks in BLOCK_LISTS)
    return _targets(counts, has_guidance=transformer.config.guidance_embeds)


def targets_of_size(size: TransformerSize) -> list[SizedTarget]:
    """The result of `targets` for a transformer of this size, without loading it."""
    counts = tuple(block.count for block in size.blocks)
    named = _targets(counts, has_guidance=len(size.outer_linears) == len(OUTER))
    return [
        SizedTarget(t.name, t.modules, t.is_optional, *linear)
        for t, linear in zip(named, size.lora_linears, strict=True)
    ]


def _targets(counts: tuple[int, ...], *, has_guidance: bool) -> list[LoraTarget]:
    names = [
        f"{blocks}.{i}.{layer}"
        for (blocks, table), count in zip(_RELEASED_BLOCKS.values(), counts, strict=True)
        for i in range(count)
        for layers in table.values()
        for layer in layers
    ]
    names += [layer for name, (layer,) in OUTER.items() if has_guidance or "guidance" not in name]
    return [LoraTarget(name, (name,)) for name in names]


def locate(name: str) -> Location | None:
    """Find a layer by its name in the released or diffusers' layout, dotted or with underscores."""
    name = name.replace(".", "_")
    if match := _IN_BLOCK.fullmatch(name):
        blocks, index, layer = match.groups()
        where = _INNER[blocks].get(layer)
        return None if where is None else _inside(f"{_OURS[blocks]}.{index}.", where)
    return _OUTER.get(name)


def layers_of(released: str) -> tuple[str, ...]:
    """diffusers' names of the layers that a layer of the released model fuses or renames.

    Raises:
        KeyError: the released model has no such layer.
    """
    blocks, _, rest = released.partition(".")
    if blocks not in _RELEASED_BLOCKS:
        return OUTER[released]
    index, _, layer = rest.partition(".")
    ours, table = _RELEASED_BLOCKS[blocks]
    return tuple(f"{ours}.{index}.{name}" for name in table[layer])


def heights_of(layers: tuple[str, ...]) -> tuple[int, ...]:
    """Ratio of the numbers of rows of a fused layer's parts."""
    return tuple(_HEIGHTS.get(layer.rpartition(".")[2], 1) for layer in layers)


def released_of(target: str) -> str:
    """The released model's layer that contains a layer of the diffusers model."""
    for blocks, (ours, table) in _RELEASED_BLOCKS.items():
        if target.startswith(f"{ours}."):
            _, index, layer = target.split(".", 2)
            return f"{blocks}.{index}.{next(name for name, layers in table.items() if layer in layers)}"
    return next(name for name, layers in OUTER.items() if target in layers)


def write(updates: Mapping[str, Update], file_format: str) -> dict[str, Tensor]:
    """The tensors of a LoRA file.

    Args:
        updates: the update of each layer, by its name in the diffusers model.
        file_format: a key of `FORMATS`.
    """
    return FORMATS[file_format](updates)


def _diffusers(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return named_pairs(updates, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight")


def _bfl(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return named_pairs(_released(updates), "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight")


def _kohya(updates: Mapping[str, Update]) -> dict[str, Tensor]:
    return kohya_pairs(_released(updates))


FORMATS = {"bfl": _bfl, "diffusers": _diffusers, "kohya": _kohya}


def _released(updates: Mapping[str, Update]) -> dict[str, Update]:
    """Updates by their names in the released model."""
    result: dict[str, Update] = {}
    for name in dict.fromkeys(released_of(target) for target in updates):
        where = locate(name)
        if isinstance(where, FusedLocation):
            joined = where.joined(updates)
            assert joined is not None, name
            result[name] = joined
        else:
            assert where is not None, name
            update = updates[layers_of(name)[0]]
            result[name] = Update(update.a, swap_halves(update.b)) if where.is_swapped else update
    return result


def _inside(block: str, where: Location) -> Location:
    if isinstance(where, LayerLocation):
        return LayerLocation(f"{block}{where.target}")
    return FusedLocation(tuple(f"{block}{target}" for target in where.targets), where.heights)


def _locations(table: Mapping[str, tuple[str, ...]]) -> dict[str, Location]:
    """Location of each layer, by every name that it has, with underscores.

    OneTrainer numbers the parts of a layer that the released model fuses, as in `img_attn.qkv.0`.
    """
    locations: dict[str, Location] = {}
    for released, layers in table.items():
        locations |= {layer.replace(".", "_"): LayerLocation(layer) for layer in layers}
        if len(layers) > 1:
            locations |= {f"{released}.{i}".replace(".", "_"): LayerLocation(layer) for i, layer in enumerate(layers)}
        whole = LayerLocation(layers[0], is_swapped=released == SWAPPED)
        locations[released.replace(".", "_")] = whole if len(layers) == 1 else FusedLocation(layers, heights_of(layers))
    return locations


_INNER = {
    name: _locations({**MORE_NAMES[blocks], **table})
    for blocks, (ours, table) in _RELEASED_BLOCKS.items()
    for name in (blocks, ours)
}
_OURS = {name: ours for blocks, (ours, _) in _RELEASED_BLOCKS.items() for name in (blocks, ours)}
_OUTER = {**_locations(OUTER), "img_in_proj": LayerLocation(*OUTER["img_in"])}  # as OneTrainer calls it
