"""Devices by the names that job files use, and autocast."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

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


def pick_cards(device: torch.device) -> tuple[torch.device, ...]:
    """Every card of the device's kind that this process can see."""
    count = torch.get_device_module(device).device_count()
    return tuple(torch.device(device.type, index) for index in range(count))


def memory_of(cards: Sequence[torch.device]) -> list[int] | None:
    """Bytes of memory of each card; None if they are not CUDA cards."""
    if any(card.type != "cuda" for card in cards):
        return None
    return [torch.cuda.get_device_properties(card).total_memory for card in cards]


def peak_bytes() -> list[int]:
    """Peak memory of tensors since `forget_peaks`, on each CUDA card that this process uses; 0 if it uses none."""
    peaks = (torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
    return [peak for peak in peaks if peak] or [0]


def held_bytes() -> list[int]:
    """Memory that torch holds on each CUDA card that this process uses; 0 if it uses none."""
    held = map(torch.cuda.memory_reserved, range(torch.cuda.device_count()))
    return [size for size in held if size] or [0]


def forget_peaks() -> None:
    """Begin a new measurement on every CUDA card."""
    for index in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(index)


def make_current(device: torch.device) -> None:
    """Make this the current GPU, which calls without a device argument, such as memory statistics, refer to."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def synchronize(device: torch.device) -> None:
    """Wait until everything that was asked of a GPU is done; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the GPU, or the type of the device if it is not a CUDA device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def linear_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a linear layer computes its input in: autocast's where it is enabled, else that of the input."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def product_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The dtype to multiply matrices of a dtype in: fp32 for bf16 on a CPU that has no fast product of bf16.

    There, torch multiplies bf16 number by number: 6 to 35 times slower than fp32 (measured with AVX2), and no more
    exact, for it sums in fp32 as well.
    """
    if device.type == "cpu" and dtype == torch.bfloat16 and not _has_bf16_products():
        return torch.float32
    return dtype


@functools.cache
def _has_bf16_products() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, dtype: torch.dtype, *, keeps_copies: bool = True) -> torch.autocast:
    """An autocast context that computes in `dtype` where that is safe; disabled for fp32.

    Args:
        device: where it computes.
        dtype: the dtype.
        keeps_copies: whether copies of trained weights in `dtype` are kept until the end of the context.
    """
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=keeps_copies)
