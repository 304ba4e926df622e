"""Pixels to normalised FLUX.2 latents and back.

Source: FLUX.2's VAE as in diffusers' Flux2Pipeline (encode takes the mean; 2 x 2 patches go to the channels; the VAE's
batch norm holds mean and variance).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLFlux2, Flux2Pipeline
from torch import Tensor


@torch.no_grad()
def encode(vae: AutoencoderKLFlux2, pixels: Tensor) -> Tensor:
    """Latents of pixels.

    Args:
        vae: in eval mode; its `bn` is only read, never called, so that its statistics cannot drift.
        pixels: [B, 3, H, W], -1..1, H and W multiples of 16.

    Returns:
        [B, 4 * latent_channels, H / 16, W / 16], about N(0, 1) per channel, in the VAE's dtype.
    """
    latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()  # [B, C, H/8, W/8]
    patches = Flux2Pipeline._patchify_latents(latents)  # [B, 4C, H/16, W/16]
    mean, std = _statistics(vae, patches)
    return (patches - mean) / std


@torch.no_grad()
def decode(vae: AutoencoderKLFlux2, latents: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in about -1..1 of normalised latents [B, 4C, H / 16, W / 16]."""
    latents = latents.to(vae.device, vae.dtype)
    mean, std = _statistics(vae, latents)
    return vae.decode(Flux2Pipeline._unpatchify_latents(latents * std + mean)).sample


def _statistics(vae: AutoencoderKLFlux2, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(like)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(like)
    return mean, std
