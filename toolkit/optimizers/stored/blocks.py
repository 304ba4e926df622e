"""State in few bits: blocks of values that share a scale, as in Dettmers et al. 2022 (arXiv 2110.02861)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.optimizers.row import BLOCK

SCALE = "_scale"  # the scales of state `x` are `x_scale`
ROOT = "root"  # state whose name ends so is positive: the root of a second moment, which is divided by
BITS_8 = torch.float8_e4m3fn
BITS_16 = torch.int16

_SMALLEST = 2.0**-9  # of 8-bit floats


def encode(values: Tensor, *, keep_positive: bool = False, codes: torch.dtype = BITS_8) -> tuple[Tensor, Tensor]:
    """Encode a tensor in blocks.

    Args:
        values: fp32 tensor of any shape.
        keep_positive: whether to keep positive values from becoming 0, since dividing by 0 would blow up the update.
        codes: 8-bit floats, which keep every value to within 6 %; or int16, whose steps are 1/32767 of the largest
            value of a block.

    Returns:
        Codes [N, 256] and scales [N, 1] in fp32.
    """
    flat = values.reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    largest = float(torch.finfo(codes).max if codes.is_floating_point else torch.iinfo(codes).max)
    scale = blocks.abs().amax(dim=1, keepdim=True) / largest
    scaled = blocks / scale.clamp(min=torch.finfo(torch.float32).tiny)
    if keep_positive:
        scaled = torch.where(scaled > 0, scaled.clamp(min=_SMALLEST), scaled)
    if not codes.is_floating_point:
        scaled = scaled.round_()
    return scaled.clamp(-largest, largest).to(codes), scale


def decode(codes: Tensor, scale: Tensor, shape: torch.Size) -> Tensor:
    """The fp32 tensor of shape `shape` that was passed to `encode`."""
    return (codes.float() * scale).view(-1)[: shape.numel()].view(shape)


def read(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """State `name` of a weight in fp32, shaped like the weight; zeros before the first step."""
    if name not in state:
        return torch.zeros_like(like, dtype=torch.float32)
    if name + SCALE not in state:
        found: Tensor = state[name]
        return found
    return decode(state[name], state[name + SCALE], like.shape)


def write(state: dict[str, Any], name: str, values: Tensor, codes: torch.dtype | None) -> None:
    """Keep `values` as state `name` of a weight: in blocks of `codes`, or as they are, in fp32, if that is None."""
    if codes is None:
        state[name] = values
    else:
        state[name], state[name + SCALE] = encode(values, keep_positive=name.endswith(ROOT), codes=codes)
