"""Weights and inputs of the reference runs, made from their names alone, bit for bit on any machine."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def numbers(name: str, shape: Sequence[int]) -> Tensor:
    """Values in -1..1 (fp32) of a shape: the mixed bits of (CRC-32 of the name + position), not a random generator.

    Source of the mixing: the finaliser of MurmurHash3 (Appleby, public domain).
    """
    count = math.prod(shape)
    bits = np.arange(count, dtype=np.uint32) + np.uint32(zlib.crc32(name.encode()))
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    return torch.from_numpy((bits / 2.0**31 - 1).astype(np.float32)).reshape(tuple(shape))


def weight(name: str, shape: Sequence[int]) -> Tensor:
    """One weight of a released single file, by its name there.

    Matrices and kernels have a variance of 1 / fan-in; scales of norms and variances lie around 1, biases and means
    around 0.
    """
    values = numbers(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * values
    if len(shape) > 1:
        return values * (3 / math.prod(shape[1:])) ** 0.5
    is_scale = name.endswith(".scale") or (name.endswith(".weight") and "norm" in name)
    return 1 + 0.2 * values if is_scale else 0.2 * values


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A whole file. Counters of a batch norm are left out, as in the released files."""
    return {name: weight(name, shape) for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
