"""Updating bf16 weights by changes that are smaller than the steps of bf16.

The steps of bf16 are 0.4 to 0.8 % of a weight: with rounding to nearest, most changes of a fine-tune are lost (Zamirai
et al. 2020, arXiv 2010.06192). A bf16 number is the upper 16 bits of an fp32 number; both remedies here use that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.parallel.weight_layout import Piece

HALF = 16
_MIDDLE = 1 << (HALF - 1)


def split(exact: Tensor) -> tuple[Tensor, Tensor]:
    """Split an fp32 tensor into the nearest bf16 values, and the other 16 bits as a signed int16 number.

    Source: Split-SGD-BF16, Kalamkar et al. 2020 (arXiv 2005.04680), with the upper half rounded instead of cut off.
    """
    bits = exact.view(torch.int32)
    upper = (bits + _MIDDLE) >> HALF
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << HALF)).to(torch.int16)


def join(weight: Tensor, rest: Tensor) -> Tensor:
    """The fp32 tensor that was passed to `split`, bit for bit."""
    upper = weight.contiguous().view(torch.int16).to(torch.int32) << HALF
    return upper.add_(rest).view(torch.float32)


def round_stochastically(values: Tensor, generator: torch.Generator, piece: Piece | None = None) -> Tensor:
    """Round each value to one of its two bf16 neighbours, with probabilities such that the expected value is exact.

    Adding 16 uniform random bits to the lower half carries into the upper half with the right probability. Source:
    Gupta et al. 2015 (arXiv 1502.02551).

    Args:
        values: fp32 tensor with finite values.
        generator: random generator on the device of `values`.
        piece: the weight that `values` are rows of: the bits are drawn for all of it, so that they do not depend on how
            many ranks share it. None: `values` are the whole weight.
    """
    shape = values.shape if piece is None else piece.shape
    noise = torch.randint(0, 1 << HALF, shape, generator=generator, device=values.device, dtype=torch.int32)
    if piece is not None:
        noise = noise[piece.rows].clone()
    return noise.add_(values.view(torch.int32)).bitwise_and_(-(1 << HALF)).view(torch.float32).bfloat16()
