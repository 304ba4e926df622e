"""Adam and AdamW on any device, with one byte per weight for each of their two moments.

We have our own because bitsandbytes has no optimizer for the CPU, and torchao compiles its optimizer at the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import OneByOne
from toolkit.optimizers.stored.blocks import BITS_8, read, write


class AdamW8bit(OneByOne):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with moments in 8-bit floats.

    The second moment is stored as its square root, which needs only half the exponent range. Deterministic.
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
    }
    is_decoupled = True

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See OneByOne."""
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        if not self.is_decoupled:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        mean = read(state, "exp_avg", parameter).lerp_(gradient, 1 - beta1)
        square = read(state, "exp_avg_root", parameter).square_()
        root = square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2).sqrt_()
        write(state, "exp_avg", mean, BITS_8)
        write(state, "exp_avg_root", root, BITS_8)
        denominator = root.div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        if self.is_decoupled:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))


class Adam8bit(AdamW8bit):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with moments in 8-bit floats; weight decay is part of the gradient."""

    settings: ClassVar[Mapping[str, Any]] = {**AdamW8bit.settings, "weight_decay": 0.0}
    is_decoupled = False
