"""Devices by the names that job files use, and the precision that is computed in."""

from __future__ import annotations

import torch

from toolkit.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device of a job.

    Args:
        name: `auto` (the best there is), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    auto = "`device: auto` takes the best that is."
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device: {name} is not there; torch sees {torch.cuda.device_count()} CUDA devices. {auto}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device: mps is not there. {auto}")
    return device


def make_current(device: torch.device) -> None:
    """Let everything that names no card, such as figures of its memory, be about this one."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def device_name(device: torch.device) -> str:
    """The card's name, or the kind of device where there is no card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Compute in `dtype` where that is safe; nothing changes for fp32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
