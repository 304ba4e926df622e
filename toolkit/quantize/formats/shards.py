"""Formats with any number of bits per weight: even steps with a scale per group, their codes split into shards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.quantize.formats.format import Buffers, by_rows
from toolkit.quantize.formats.groups import GROUP_SIZE, Encode, around_zero, between, stored_scale
from toolkit.quantize.formats.rows import SMALLEST_SCALE

_WEIGHTS_AT_ONCE = 1 << 22  # unpacked at once: their codes take memory in addition to the weight
_FITS = 8  # times that scale and codes of ternary weights are fitted to each other


@dataclass(frozen=True)
class Stepped:
    """`weight = (code - zero) * scale + offset`, where `GROUP_SIZE` neighbours in a row share scale and offset.

    The lowest bits of all codes of a row are stored first, in shards of 4, 2 and 1 bits: 7 bits are 4, 2 and 1.

    Attributes:
        bits: bits per code.
        encode: chooses codes, scale and offset of groups.
        zero: the code of 0 without an offset.
    """

    bits: int
    encode: Encode
    zero: int = 0

    def quantize(self, weight: Tensor) -> Buffers:
        """`qweight` [N, bytes], `scale` and perhaps `offset` [N, groups] in bf16."""
        return by_rows(weight, self._quantize_rows)

    def dequantize(self, buffers: Buffers, *, in_features: int, dtype: torch.dtype) -> Tensor:
        """See Format."""
        qweight, scale, offset = buffers["qweight"], buffers["scale"], buffers.get("offset")
        weight = torch.empty((qweight.shape[0], in_features), dtype=dtype, device=qweight.device)
        rows_at_once = max(1, _WEIGHTS_AT_ONCE // in_features)
        for start in range(0, qweight.shape[0], rows_at_once):
            rows = slice(start, start + rows_at_once)
            values = self._codes(qweight[rows], GROUP_SIZE * scale.shape[1]).to(dtype)
            values = values.sub_(self.zero).unflatten(1, (-1, GROUP_SIZE)).mul_(scale[rows].unsqueeze(-1))
            if offset is not None:
                values.add_(offset[rows].unsqueeze(-1))
            weight[rows] = values.flatten(1)[:, :in_features]
        return weight

    def _quantize_rows(self, weight: Tensor) -> Buffers:
        rows = functional.pad(weight.float(), (0, -weight.shape[1] % GROUP_SIZE))
        codes, scale, offset = self.encode(rows.unflatten(1, (-1, GROUP_SIZE)))
        codes, shift, shards = codes.flatten(1), 0, []
        for width in shards_of(self.bits):
            part = (codes >> shift & (1 << width) - 1).unflatten(1, (8 // width, -1))  # [N, 8 / width, bytes]
            shards.append(sum(part[:, at] << (width * at) for at in range(8 // width)))
            shift += width
        buffers = {"qweight": torch.cat(shards, dim=1), "scale": scale.squeeze(-1)}
        return buffers if offset is None else buffers | {"offset": offset.squeeze(-1)}

    def _codes(self, qweight: Tensor, count: int) -> Tensor:
        """The codes [N, count] of packed rows, uint8."""
        codes, shift, start = torch.zeros((qweight.shape[0], count), dtype=torch.uint8, device=qweight.device), 0, 0
        for width in shards_of(self.bits):
            per_byte = 8 // width
            packed = qweight[:, start : start + count // per_byte]
            for at, part in enumerate(codes.unflatten(1, (per_byte, -1)).unbind(1)):
                part |= (packed >> (width * at) & (1 << width) - 1) << shift
            shift, start = shift + width, start + count // per_byte
        return codes


def shards_of(bits: int) -> tuple[int, ...]:
    """Widths of the shards of a code, the lowest bits first; each divides 8."""
    return tuple(width for width in (4, 2, 1) if bits & width)


def ternary(groups: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """-1, 0 or 1 step: with so few, the scale of least squared error is far from the largest weight.

    Scale and codes are fitted to each other in turn, from the mean size of a group's weights (Li et al. 2016, arXiv
    1605.04711, minimise the same error with a threshold).
    """
    scale = groups.abs().mean(dim=-1, keepdim=True).clamp_(min=SMALLEST_SCALE)
    for _ in range(_FITS):
        signs = (groups / scale).round_().clamp_(-1, 1)
        count = signs.abs().sum(dim=-1, keepdim=True)
        scale = ((groups * signs).sum(dim=-1, keepdim=True) / count.clamp(min=1)).clamp_(min=SMALLEST_SCALE)
    scale = stored_scale(scale)
    signs = (groups / scale.float()).round_().clamp_(-1, 1)
    return (signs + 1).to(torch.uint8), scale, None


UINT2, UINT3, UINT5, UINT6, UINT7 = (Stepped(bits, partial(between, bits=bits)) for bits in (2, 3, 5, 6, 7))
INT3, INT5, INT6, INT7 = (Stepped(bits, partial(around_zero, bits=bits), zero=2 ** (bits - 1)) for bits in (3, 5, 6, 7))
TERNARY = Stepped(2, ternary, zero=1)
