"""Formats with 8 bits per weight and one scale per row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.quantize.formats.format import Buffers, by_rows

SMALLEST_SCALE = torch.finfo(torch.bfloat16).tiny  # so that a row of zeros has a scale


@dataclass(frozen=True)
class RowScaled:
    """`weight[n, k] = number[n, k] * scale[n]`; the largest weight of a row maps to the dtype's largest number.

    Scales are bf16, and weights are rounded using the stored scale: 8-bit number and scale are then both exact in bf16,
    and their product is rounded only once.

    Attributes:
        storage: dtype of the numbers, int8 or float8_e4m3fn.
    """

    storage: torch.dtype

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, K], `scale` [N, 1] bf16."""
        return by_rows(weight, self._quantize_rows)

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        return buffers["qweight"].view(self.storage).to(dtype).mul_(buffers["scale"])

    def pack(self, numbers: Tensor) -> Tensor:
        """Numbers as they are stored: float8 as integers with the same bits."""
        return numbers if self.storage == torch.int8 else numbers.view(torch.uint8)

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        rows = weight.float()
        is_integer = not self.storage.is_floating_point
        largest = float(torch.iinfo(self.storage).max if is_integer else torch.finfo(self.storage).max)
        scale = (rows.abs().amax(dim=1, keepdim=True) / largest).bfloat16().clamp(min=SMALLEST_SCALE)  # [N, 1]
        numbers = (rows / scale.float()).clamp_(-largest, largest)
        if is_integer:
            numbers.round_()
        return {"qweight": self.pack(numbers.to(self.storage)), "scale": scale}


FLOAT8 = RowScaled(torch.float8_e4m3fn)
INT8 = RowScaled(torch.int8)
