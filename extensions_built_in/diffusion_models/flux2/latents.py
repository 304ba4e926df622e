"""Pixels to normalised FLUX.2 latents and back.

Source: FLUX.2's VAE as in diffusers' Flux2Pipeline (encode takes the mean; 2 x 2 patches go to the channels; the VAE's
batch norm holds mean and variance).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLFlux2, Flux2Pipeline
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.size import WHOLE_PX


@contextmanager
def tiled_above(vae: AutoencoderKLFlux2, pixels: int, *, limit: int = WHOLE_PX) -> Iterator[None]:
    """Inside the block, pictures of this many pixels go through the VAE in tiles if they are more than `limit`."""
    if pixels > limit:
        vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


@torch.no_grad()
def encode(vae: AutoencoderKLFlux2, pixels: Tensor, *, limit: int = WHOLE_PX) -> Tensor:
    """Latents of pixels.

    Args:
        vae: in eval mode; its `bn` is only read, never called, so that its statistics cannot drift.
        pixels: [B, 3, H, W], -1..1, H and W multiples of 16.
        limit: pictures of more pixels are encoded in tiles.

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
    """Pixels [B, 3, H, W] in about -1..1 of normalised latents [B, 4C, H / 16, W / 16].

    Pictures of more than `limit` pixels are decoded in tiles.
    """
    latents = latents.to(vae.device, vae.dtype)
    mean, std = _statistics(vae, latents)
    with tiled_above(vae, 16 * latents.shape[-2] * 16 * latents.shape[-1], limit=limit):
        return vae.decode(Flux2Pipeline._unpatchify_latents(latents * std + mean)).sample


def _statistics(vae: AutoencoderKLFlux2, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(like)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(like)
    return mean, std
