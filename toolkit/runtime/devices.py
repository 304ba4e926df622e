"""Devices by the names that job files use, and autocast."""

from __future__ import annotations

import torch

from toolkit.runtime.device_names import unavailable


def pick_device(name: str) -> torch.device:
    """The device for a job.

    Args:
        name: `auto` (the best available), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise unavailable(name, torch.cuda.device_count())
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise unavailable(name, 0)
    return device


def make_current(device: torch.device) -> None:
    """Make this the current GPU, which calls without a device argument, such as memory statistics, refer to."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def device_name(device: torch.device) -> str:
    """The name of the GPU, or the type of the device if it is not a CUDA device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast(device: torch.device, dtype: torch.dtype, *, keeps_copies: bool = True) -> torch.autocast:
    """An autocast context that computes in `dtype` where that is safe; disabled for fp32.

    Args:
        device: where it computes.
        dtype: the dtype.
        keeps_copies: whether copies of trained weights in `dtype` are kept until the end of the context.
    """
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=keeps_copies)
