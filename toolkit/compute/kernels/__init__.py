"""Kernels in Triton for 8-bit products on NVIDIA cards. Each module has a twin in plain torch, which states its result.

Triton comes with torch for CUDA on Linux. Where it is missing, nothing here is imported and the twins compute.
"""

from __future__ import annotations

import functools
import importlib.util

import torch


def has_kernels(device: torch.device) -> bool:
    """Whether products on a device are computed by the kernels."""
    return device.type == "cuda" and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
