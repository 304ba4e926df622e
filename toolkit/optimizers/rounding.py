"""bf16 weights that learn from changes smaller than bf16's steps.

bf16 has steps of 0.4 to 0.8 % of a weight: rounded to the nearest, most changes of a fine-tune are lost (Zamirai et al.
2020, arXiv 2010.06192). A bf16 number is the upper half of the bits of an fp32 number; both remedies here use that.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = 16
_MIDDLE = 1 << (HALF - 1)


def split(exact: Tensor) -> tuple[Tensor, Tensor]:
    """An fp32 tensor as its nearest bf16 values, and the other half of its bits as a signed number, int16.

    Source: Split-SGD-BF16, Kalamkar et al. 2020 (arXiv 2005.04680), with the upper half rounded instead of cut off.
    """
    bits = exact.view(torch.int32)
    upper = (bits + _MIDDLE) >> HALF
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << HALF)).to(torch.int16)


def join(weight: Tensor, rest: Tensor) -> Tensor:
    """The fp32 tensor that `split` was given, bit for bit."""
    upper = weight.contiguous().view(torch.int16).to(torch.int32) << HALF
    return upper.add_(rest).view(torch.float32)


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """One of the two bf16 neighbours of each value, the nearer the likelier: their mean is the value.

    Adding 16 even random bits to the lower half carries into the upper one as often as it should. Source: Gupta et al.
    2015 (arXiv 1502.02551).

    Args:
        values: fp32, finite.
        generator: on the values' device.
    """
    noise = torch.randint(0, 1 << HALF, values.shape, generator=generator, device=values.device, dtype=torch.int32)
    return noise.add_(values.view(torch.int32)).bitwise_and_(-(1 << HALF)).view(torch.float32).bfloat16()
