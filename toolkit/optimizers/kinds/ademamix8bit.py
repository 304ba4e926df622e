"""AdEMAMix: AdamW with a second, much longer memory of gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import OneByOne
from toolkit.optimizers.stored.blocks import BITS_8, BITS_16, read, write


class AdEMAMix8bit(OneByOne):
    """AdEMAMix, Pagliardini et al. 2024 (arXiv 2409.03137), algorithm 1, with its moments in blocks.

    The fast moments take 8 bits. The slow one takes 16: it changes by 1e-4 of a gradient in a step, which 8 bits with
    their steps of 6 % would round away.
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "lr": 1e-4,
        "betas": (0.9, 0.999, 0.9999),
        "alpha": 5.0,
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "warmup_steps": 0,
    }

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See OneByOne."""
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
        state["step"] += 1
        step = float(state["step"])
        beta1, beta2, beta3 = group["betas"]
        alpha, beta3 = _warmed_up(step, group["warmup_steps"], group["alpha"], beta1, beta3)
        fast = read(state, "exp_avg", parameter).lerp_(gradient, 1 - beta1)
        slow = read(state, "exp_avg_slow", parameter).lerp_(gradient, 1 - beta3)
        square = read(state, "exp_avg_root", parameter).square_()
        root = square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2).sqrt_()
        write(state, "exp_avg", fast, BITS_8)
        write(state, "exp_avg_slow", slow, BITS_16)
        write(state, "exp_avg_root", root, BITS_8)
        denominator = root.div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(fast.div_(1 - beta1**step).add_(slow, alpha=alpha), denominator, value=-group["lr"])


def _warmed_up(step: float, num_steps: int, alpha: float, beta1: float, beta3: float) -> tuple[float, float]:
    """`alpha` and `beta3` of a step: alpha grows linearly, beta3 so that its half-life does."""
    if step >= num_steps:
        return alpha, beta3
    share, low, high = step / num_steps, math.log(beta1), math.log(beta3)
    return alpha * share, min(beta3, math.exp(low * high / ((1 - share) * high + share * low)))
