"""Replaces the VAE when a transformer is trained on pixels: its latents are the pixels themselves, rearranged.

Squares of 8 x 8 pixels become 3 * 64 channels, so latents have the grid of the models' own VAEs, and everything that
packs, places and counts tokens stays as it is. Squares of 16 x 16 make a quarter as many tokens, and images then have
sides of twice as many pixels. Pixels are standardised to about unit variance, as in ai-toolkit.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_SHIFT, _SCALE = 0.123, 1.8  # of pixels in -1..1


class PixelVae(nn.Module):
    """Encodes and decodes without loss, under the names of the library's VAEs.

    Args:
        device: device of what it makes.
        cell_px: side of the squares of pixels that become the channels of one latent, a power of two.
    """

    def __init__(self, device: torch.device, *, cell_px: int = 8) -> None:
        super().__init__()
        self.cell_px = cell_px
        self.fingerprint = f"pixels 1, {cell_px}"
        channels = 3 * cell_px**2
        # The statistics and factors with which models normalise latents change nothing here.
        self.config = SimpleNamespace(
            latent_channels=channels,
            # The library's pipelines take the size of a cell from their number.
            block_out_channels=(channels,) * cell_px.bit_length(),
            batch_norm_eps=0.0,
            scaling_factor=1.0,
            shift_factor=0.0,
        )
        self.bn = nn.BatchNorm2d(4 * channels, affine=False, device=device)
        self.dtype, self.device = torch.float32, device

    def encode(self, pixels: Tensor) -> Any:
        """Pixels [B, 3, H, W], -1..1, as latents [B, 3 * cell², H / cell, W / cell]."""
        latents = functional.pixel_unshuffle((pixels + _SHIFT) * _SCALE, self.cell_px)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
        """The inverse of `encode`."""
        pixels = functional.pixel_shuffle(latents, self.cell_px) / _SCALE - _SHIFT
        return SimpleNamespace(sample=pixels) if return_dict else (pixels,)

    def disable_tiling(self) -> None:
        """Nothing to do: pixels need no tiles."""

    enable_tiling = disable_tiling
