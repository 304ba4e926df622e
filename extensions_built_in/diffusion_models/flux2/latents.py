"""Pixels to normalised FLUX.2 latents and back.

Source: FLUX.2's VAE as in diffusers' Flux2Pipeline (encoding takes the mean; 2 x 2 patches become channels; the VAE's
batch norm stores mean and variance).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLFlux2, Flux2Pipeline
from torch import Tensor

from toolkit.memory.tiling import WHOLE_PX, tiled_above
from toolkit.weights.layouts import ComponentFiles
from toolkit.weights.vae_identity import vae_fingerprint

# Settings of the VAE that affect latents but are not visible in its weights.
ENCODER_SETTINGS = {"batch_norm_eps": 1e-4, "norm_num_groups": 32, "act_fn": "silu"}


def fingerprint(files: ComponentFiles, *, dtype: torch.dtype) -> str:
    """What names the latents that a VAE in these files gives when it computes in `dtype`."""
    return vae_fingerprint(files, settings=ENCODER_SETTINGS, dtype=dtype)


@torch.no_grad()
def encode(vae: AutoencoderKLFlux2, pixels: Tensor, *, limit: int = WHOLE_PX) -> Tensor:
    """Encode pixels into normalised latents.

    Args:
        vae: the VAE, in eval mode. Its `bn` is only read, never called, so its statistics cannot drift.
        pixels: images, [B, 3, H, W], -1..1, H and W multiples of 16.
        limit: images with more pixels are encoded in tiles.

    Returns:
        [B, 4 * latent_channels, H / 16, W / 16], about N(0, 1) per channel, in the VAE's dtype.
    """
    with tiled_above(vae, pixels.shape[-2] * pixels.shape[-1], limit=limit):
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()  # [B, C, H/8, W/8]
    patches = Flux2Pipeline._patchify_latents(latents)  # [B, 4C, H/16, W/16]
    mean, std = _statistics(vae, patches)
    return (patches - mean) / std


@torch.no_grad()
def decode(vae: AutoencoderKLFlux2, latents: Tensor, *, limit: int = WHOLE_PX) -> Tensor:
    """Decode normalised latents [B, 4C, H / 16, W / 16] into pixels [B, 3, H, W], about -1..1.

    Images with more than `limit` pixels are decoded in tiles.
    """
    latents = latents.to(vae.device, vae.dtype)
    mean, std = _statistics(vae, latents)
    with tiled_above(vae, 16 * latents.shape[-2] * 16 * latents.shape[-1], limit=limit):
        return vae.decode(Flux2Pipeline._unpatchify_latents(latents * std + mean)).sample


def _statistics(vae: AutoencoderKLFlux2, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(like)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(like)
    return mean, std
