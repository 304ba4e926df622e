"""Stands in for a VAE where a transformer is trained on pixels: its latents are the pixels themselves, rearranged.

Squares of 8 x 8 pixels become 3 * 64 channels, so latents have the grid of the models' own VAEs, and everything that
packs, places and counts tokens stays as it is. Pixels are standardised to about unit variance, as in ai-toolkit.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL_PX = 8
_SHIFT, _SCALE = 0.123, 1.8  # of pixels in -1..1


class PixelVae(nn.Module):
    """Encodes and decodes without loss, under the names of the library's VAEs."""

    fingerprint = "pixels 1"

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        channels = 3 * CELL_PX**2
        # The statistics and factors with which models normalise latents change nothing here.
        self.config = SimpleNamespace(
            latent_channels=channels,
            block_out_channels=(channels,) * 4,  # the library's pipelines take the size of a cell from their number
            batch_norm_eps=0.0,
            scaling_factor=1.0,
            shift_factor=0.0,
        )
        self.bn = nn.BatchNorm2d(4 * channels, affine=False, device=device)
        self.dtype, self.device = torch.float32, device

    def encode(self, pixels: Tensor) -> Any:
        """Pixels [B, 3, H, W], -1..1, as latents [B, 192, H / 8, W / 8]."""
        latents = functional.pixel_unshuffle((pixels + _SHIFT) * _SCALE, CELL_PX)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
        """The inverse of `encode`."""
        pixels = functional.pixel_shuffle(latents, CELL_PX) / _SCALE - _SHIFT
        return SimpleNamespace(sample=pixels) if return_dict else (pixels,)

    def disable_tiling(self) -> None:
        """Nothing to do: pixels need no tiles."""

    enable_tiling = disable_tiling
