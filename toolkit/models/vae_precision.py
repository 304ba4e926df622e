"""The VAE between parts that compute in another precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def vae_precision(vae: Any, dtype: torch.dtype | None = None) -> AbstractContextManager[Any]:
    """Inside the block the VAE computes in its own precision, whatever autocast is on; what it is given must be cast.

    Args:
        vae: has a dtype and a device.
        dtype: of the surroundings; where it is the VAE's own, autocast stays: its norms are better in fp32.
    """
    return nullcontext() if vae.dtype == dtype else torch.autocast(vae.device.type, enabled=False)
