"""Formats with 2 or 4 bits per weight, which select one of a few values, and a scale per group within a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.quantize.formats.format import Buffers, by_rows
from toolkit.quantize.formats.rows import SMALLEST_SCALE

GROUP_SIZE = 64
_WEIGHTS_AT_ONCE = 1 << 24  # unpacked at once: their indices take memory in addition to the weight

# Maps groups [..., G] in fp32 to codes [..., G] (uint8), scale and offset [..., 1] (bf16); offset None means 0.
Encode = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


@dataclass(frozen=True)
class Grouped:
    """`weight = codebook[code] * scale + offset`, where `GROUP_SIZE` neighbours in a row share scale and offset.

    If the length of a row is not a multiple of that, the last group is padded with zeros, which are dropped later.

    Attributes:
        codebook: the 16 or 4 possible values, exact in bf16.
        encode: chooses codes, scale and offset of groups.
    """

    codebook: tuple[float, ...]
    encode: Encode

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, bytes], `scale` and optionally `offset` [N, groups] in bf16, and `codebook`; see `unpack`."""
        buffers = by_rows(weight, self._quantize_rows)
        return buffers | {"codebook": codebook_of_bytes(self.codebook).to(weight.device)}

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        return unpack(buffers, in_features=in_features, dtype=dtype)

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        rows = functional.pad(weight.float(), (0, -weight.shape[1] % GROUP_SIZE))
        codes, scale, offset = self.encode(rows.unflatten(1, (-1, GROUP_SIZE)))
        return packed(codes.flatten(1), scale.squeeze(-1), offset if offset is None else offset.squeeze(-1))


def packed(codes: Tensor, scale: Tensor, offset: Tensor | None, *, bits: int = 4) -> Buffers:
    """Pack codes [N, K] into bytes, the first in the lowest bits, with scale and offset [N, groups] as buffers."""
    per_byte = 8 // bits
    codes = functional.pad(codes, (0, -codes.shape[1] % per_byte)).unflatten(1, (-1, per_byte))  # [N, bytes, per_byte]
    qweight = codes[..., 0].clone()
    for position in range(1, per_byte):
        qweight |= codes[..., position] << (bits * position)
    buffers = {"qweight": qweight, "scale": scale}
    return buffers if offset is None else buffers | {"offset": offset}


def codebook_of_bytes(codebook: tuple[float, ...]) -> Tensor:
    """For every byte, the bf16 values of its codes side by side as one integer: [256], int32 or int64.

    One lookup returns all weights of a byte, and `module.to(dtype)` does not change integers.
    """
    per_byte = {16: 2, 4: 4}[len(codebook)]
    codes = torch.arange(256).unsqueeze(1) >> (8 // per_byte) * torch.arange(per_byte)  # [256, per_byte]
    values = torch.tensor(codebook, dtype=torch.bfloat16)[codes % len(codebook)]
    return values.view(torch.int32 if per_byte == 2 else torch.int64).squeeze(1)


def unpack(buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
    """The weight [N, in_features] of buffers made by `packed` and `codebook_of_bytes`."""
    qweight, scale, offset = buffers["qweight"], buffers["scale"], buffers.get("offset")
    weight = torch.empty((qweight.shape[0], in_features), dtype=dtype, device=qweight.device)
    rows_at_once = max(1, _WEIGHTS_AT_ONCE // in_features)
    for start in range(0, qweight.shape[0], rows_at_once):
        rows = slice(start, start + rows_at_once)
        values = buffers["codebook"][qweight[rows].int()].view(torch.bfloat16).to(dtype)  # [rows, padded K]
        values = values.unflatten(1, (scale.shape[1], -1)).mul_(scale[rows].unsqueeze(-1))  # [rows, groups, size]
        if offset is not None:
            values.add_(offset[rows].unsqueeze(-1))
        weight[rows] = values.flatten(1)[:, :in_features]
    return weight


def between(groups: Tensor, *, bits: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Code 0 for the smallest weight of a group, the largest code for the largest weight."""
    last = 2**bits - 1
    offset = groups.amin(dim=-1, keepdim=True).bfloat16()
    scale = stored_scale((groups.amax(dim=-1, keepdim=True) - offset.float()) / last)
    codes = ((groups - offset.float()) / scale.float()).round_().clamp_(0, last)
    return codes.to(torch.uint8), scale, offset


def around_zero(groups: Tensor, *, bits: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """As many steps to each side of zero, the last one at the largest weight of a group; code 0 stays unused."""
    last = 2 ** (bits - 1) - 1
    scale = stored_scale(groups.abs().amax(dim=-1, keepdim=True) / last)
    codes = (groups / scale.float()).round_().clamp_(-last, last) + (last + 1)
    return codes.to(torch.uint8), scale, None


def _normal_float(groups: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The code of the nearest value in the codebook."""
    scale = stored_scale(groups.abs().amax(dim=-1, keepdim=True))
    values = torch.tensor(NORMAL_FLOAT, device=groups.device).bfloat16().float()
    borders = (values[1:] + values[:-1]) / 2
    return torch.bucketize(groups / scale.float(), borders, out_int32=True).to(torch.uint8), scale, None


def stored_scale(scale: Tensor) -> Tensor:
    """A scale as it is stored: bf16, and never 0."""
    return scale.bfloat16().clamp(min=SMALLEST_SCALE)


# Quantiles of the normal distribution scaled to -1..1, with an exact zero. Source: QLoRA, Dettmers et al. 2023
# (arXiv 2305.14314), appendix E.
NORMAL_FLOAT = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
UINT4 = Grouped(tuple(map(float, range(16))), partial(between, bits=4))
INT4 = Grouped(tuple(map(float, range(-8, 8))), partial(around_zero, bits=4))
NF4 = Grouped(NORMAL_FLOAT, _normal_float)
