"""Pixels to normalised FLUX.1 latents and back.

Source: diffusers' FluxKontextPipeline (encoding takes the mean; shift and scale are in the VAE's configuration).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from toolkit.memory.tiling import WHOLE_PX, tiled_above

# Values of the released VAE, whose single file comes without a configuration.
NORMALISATION = {"scaling_factor": 0.3611, "shift_factor": 0.1159}
# Settings of the VAE that affect latents but are not visible in its weights.
ENCODER_SETTINGS = {**NORMALISATION, "norm_num_groups": 32, "act_fn": "silu"}


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor, *, limit: int = WHOLE_PX) -> Tensor:
    """Encode pixels into normalised latents.

    Args:
        vae: the VAE, in eval mode.
        pixels: images, [B, 3, H, W], -1..1, H and W multiples of 16.
        limit: images with more pixels are encoded in tiles.

    Returns:
        [B, 16, H / 8, W / 8], about N(0, 1), in the VAE's dtype.
    """
    with tiled_above(vae, pixels.shape[-2] * pixels.shape[-1], limit=limit):
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, *, limit: int = WHOLE_PX) -> Tensor:
    """Decode normalised latents [B, 16, H / 8, W / 8] into pixels [B, 3, H, W], about -1..1.

    Images with more than `limit` pixels are decoded in tiles.
    """
    latents = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    with tiled_above(vae, 8 * latents.shape[-2] * 8 * latents.shape[-1], limit=limit):
        return vae.decode(latents).sample
