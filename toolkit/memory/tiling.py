"""Tiling for pictures that are too large for the VAE in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Larger pictures go through the VAE in overlapping tiles that are blended where they meet. Tiles do not see each other,
# so the result differs slightly; up to this size, which covers the usual training sizes, it is exact. A constant rather
# than a setting, because cached latents depend on it.
WHOLE_PX = 2048 * 2048
# The largest picture to decode in one piece next to a transformer if memory is short.
WHOLE_LOW_VRAM_PX = 1024 * 1024


@contextmanager
def tiled_above(vae: Any, pixels: int, *, limit: int = WHOLE_PX) -> Iterator[None]:
    """Within the block, the VAE uses tiles if the pictures, of `pixels` pixels, are larger than `limit`."""
    if pixels > limit:
        vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
