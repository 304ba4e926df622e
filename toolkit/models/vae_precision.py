"""Runs the VAE in its own precision inside code that runs under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def vae_precision(vae: Any, dtype: torch.dtype | None = None) -> AbstractContextManager[Any]:
    """Context in which the VAE computes in its own precision, whatever autocast is on; cast its inputs yourself.

    Args:
        vae: a VAE with `dtype` and `device`.
        dtype: number format of the caller. If it is also the VAE's, autocast stays on: it runs norms in fp32.
    """
    return nullcontext() if vae.dtype == dtype else torch.autocast(vae.device.type, enabled=False)
