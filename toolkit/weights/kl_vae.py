"""The convolutional autoencoder of latent diffusion: its names in released files, and its widths.

Source: diffusers' AutoencoderKL and its descendants; the released layout is that of the LDM code.
"""

from __future__ import annotations

from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from toolkit.weights.streaming import Convert, Shapes, unchanged

_BLOCKS = {"down_block_types": range(4), "up_block_types": range(4)}  # of which diffusers takes the number


def kl_vae_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of diffusers' class for tensors with its names.

    Raises:
        KeyError: these are not the tensors of such a VAE.
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
    """How many modules a list of modules has."""
    prefix = f"{blocks}."
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def block_widths(shapes: Shapes, blocks: str) -> tuple[int, ...]:
    """Channels of each block of an encoder or decoder."""
    return tuple(shapes[f"{blocks}.{i}.resnets.0.conv1.weight"][0] for i in range(count_blocks(shapes, blocks)))


def _released_part(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("bn."):
        return {name: tensor}
    for inner in ("encoder.quant_conv.", "decoder.post_quant_conv."):
        name = name.replace(inner, inner.partition(".")[2])
    parts: dict[str, Tensor | None] = {name: tensor}
    if "sample.conv." in name:  # diffusers takes weight and bias of these together
        layer, _, kind = name.rpartition(".")
        parts[f"{layer}.{'bias' if kind == 'weight' else 'weight'}"] = None
    converted = convert_ldm_vae_checkpoint(parts, _BLOCKS)
    return {new: part for new, part in converted.items() if part is not None} or {name: tensor}


# A tensor that only the layout has -> how its names are converted.
VAE_LAYOUTS: dict[str, Convert] = {
    "encoder.down.0.block.0.conv1.weight": _released_part,
    "encoder.down_blocks.0.resnets.0.conv1.weight": unchanged,
}
