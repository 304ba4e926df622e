"""Pictures that are too large for the VAE in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Larger pictures go through the VAE in overlapping tiles, blended where they meet. Tiles do not see each other, so the
# result differs a little: up to here, where all usual training sizes are, it is exact. A constant and no setting,
# because cached latents depend on it.
WHOLE_PX = 2048 * 2048
# What may be decoded whole beside a transformer when memory is short.
WHOLE_LOW_VRAM_PX = 1024 * 1024


@contextmanager
def tiled_above(vae: Any, pixels: int, *, limit: int = WHOLE_PX) -> Iterator[None]:
    """Inside the block, pictures of this many pixels go through the VAE in tiles if they are more than `limit`."""
    if pixels > limit:
        vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
