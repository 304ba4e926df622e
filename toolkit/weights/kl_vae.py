"""The convolutional autoencoder of latent diffusion: its configuration and its tensor names in released files.

Source: diffusers' AutoencoderKL and its variants; the released layout is that of the original LDM code.
"""

from __future__ import annotations

from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from toolkit.weights.streaming import Convert, Shapes, unchanged

_BLOCKS = {"down_block_types": range(4), "up_block_types": range(4)}  # diffusers only takes their lengths


def kl_vae_config(shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of diffusers' class, inferred from tensors with its names.

    Raises:
        KeyError: the tensors are not those of such a VAE.
    """
    widths = block_widths(shapes, "encoder.down_blocks")
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": count_blocks(shapes, "encoder.down_blocks.0.resnets"),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def count_blocks(shapes: Shapes, blocks: str) -> int:
    """Number of modules in a module list."""
    prefix = f"{blocks}."
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def block_widths(shapes: Shapes, blocks: str) -> tuple[int, ...]:
    """Number of channels of each block of an encoder or decoder."""
    return tuple(shapes[f"{blocks}.{i}.resnets.0.conv1.weight"][0] for i in range(count_blocks(shapes, blocks)))


def _released_part(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("bn."):
        return {name: tensor}
    for inner in ("encoder.quant_conv.", "decoder.post_quant_conv."):
        name = name.replace(inner, inner.partition(".")[2])
    parts: dict[str, Tensor | None] = {name: tensor}
    if "sample.conv." in name:  # diffusers converts weight and bias of these layers together
        layer, _, kind = name.rpartition(".")
        parts[f"{layer}.{'bias' if kind == 'weight' else 'weight'}"] = None
    converted = convert_ldm_vae_checkpoint(parts, _BLOCKS)
    return {new: part for new, part in converted.items() if part is not None} or {name: tensor}


# A tensor that only one layout has -> the conversion of that layout's names.
VAE_LAYOUTS: dict[str, Convert] = {
    "encoder.down.0.block.0.conv1.weight": _released_part,
    "encoder.down_blocks.0.resnets.0.conv1.weight": unchanged,
}
