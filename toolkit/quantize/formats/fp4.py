"""NVFP4: 4-bit floats, with an 8-bit float as the scale of each 16 weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.quantize.formats.format import Buffers, by_rows
from toolkit.quantize.formats.groups import codebook_of_bytes, packed, unpack
from toolkit.quantize.formats.rows import SMALLEST_SCALE

BLOCK = 16
# Sign, two bits of exponent, one of mantissa (E2M1), in the order of their bits. Source: OCP Microscaling Formats 1.0.
_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = (*_POSITIVE, *(-value for value in _POSITIVE))
_LARGEST, _LARGEST_SCALE = 6.0, 448.0  # of E2M1 and of E4M3
_SMALLEST_SCALE = 2.0**-9  # of E4M3, so that a block of zeros has a scale


@dataclass(frozen=True)
class Nvfp4:
    """`weight = e2m1 * e4m3 * scale`: an 8-bit scale per block of 16, and one in bf16 per row.

    NVIDIA's format has one in fp32 per weight matrix; per row, each row is rounded by itself.
    """

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, K / 2], `block_scale` [N, K / 16] (bits of E4M3), `scale` [N, 1] bf16."""
        return by_rows(weight, self._quantize_rows) | {"codebook": codebook_of_bytes(E2M1).to(weight.device)}

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        scale = buffers["block_scale"].view(torch.float8_e4m3fn).float() * buffers["scale"].float()  # [N, blocks]
        return unpack(dict(buffers) | {"scale": scale}, in_features=in_features, dtype=dtype)

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        rows = weight.float()
        scale = (rows.abs().amax(dim=1, keepdim=True) / (_LARGEST * _LARGEST_SCALE)).bfloat16()  # [N, 1]
        scale.clamp_(min=SMALLEST_SCALE)
        blocks = functional.pad(rows / scale.float(), (0, -rows.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        block_scale = (blocks.abs().amax(dim=-1) / _LARGEST).clamp_(_SMALLEST_SCALE, _LARGEST_SCALE)
        block_scale = block_scale.to(torch.float8_e4m3fn)  # [N, blocks]
        values = blocks / block_scale.float().unsqueeze(-1)
        steps = torch.tensor(_POSITIVE, device=rows.device)
        codes = torch.bucketize(values.abs(), (steps[1:] + steps[:-1]) / 2).to(torch.uint8) | (values < 0).byte() << 3
        found = packed(codes.flatten(1), block_scale.view(torch.uint8), None)
        return {"qweight": found["qweight"], "block_scale": found["scale"], "scale": scale}


NVFP4 = Nvfp4()
