"""Rounds activations and gradients to 8 bits, each token with a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-30  # so that a row of zeros has a scale
# Numbers that a CPU rounds at once: what is between input and result then stays in its cache.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class RoundedRows:
    """`numbers[m, k] * scale[m]` is about the original; the largest number of a row is the largest of the dtype.

    Attributes:
        numbers: [M, K], int8 or float8_e4m3fn.
        scale: [M, 1], fp32.
    """

    numbers: Tensor
    scale: Tensor

    def float(self) -> Tensor:
        """What the numbers stand for, [M, K], fp32."""
        return self.numbers.float() * self.scale


def round_rows(x: Tensor, dtype: torch.dtype, *, times: Tensor | None = None) -> RoundedRows:
    """Round the rows of a matrix to the nearest numbers of an 8-bit dtype.

    Args:
        x: [M, K], floating point.
        dtype: int8 or float8_e4m3fn.
        times: factors for the columns, [K], fp32; None for 1.
    """
    num_rows, width = x.shape
    numbers = torch.empty((num_rows, width), dtype=dtype, device=x.device)
    scale = torch.empty((num_rows, 1), dtype=torch.float32, device=x.device)
    at_once = num_rows if x.device.type != "cpu" else max(1, _AT_ONCE // max(width, 1))
    for start in range(0, num_rows, at_once or 1):
        rows = slice(start, start + at_once)
        part = x[rows].to(torch.float32, copy=True)
        if times is not None:
            part.mul_(times)
        scale[rows] = _scale(part, dtype)
        part.mul_(scale[rows].reciprocal())
        numbers[rows] = part if dtype.is_floating_point else part.round_()
    return RoundedRows(numbers, scale)


def _scale(x: Tensor, dtype: torch.dtype) -> Tensor:
    largest = torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max
    # Not the largest of the absolute values: on a CPU they would be written to memory first.
    spread = torch.maximum(x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True).neg_())
    return spread.div_(largest).clamp_(min=SMALLEST_SCALE)
