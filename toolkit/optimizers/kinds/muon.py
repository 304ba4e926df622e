"""Muon: steps along the nearest orthogonal matrix of the momentum; AdamW for what is not a matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import OneByOne

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LIKE_ADAM = 0.2  # root mean square of an AdamW update, by Liu et al.


class Muon(OneByOne):
    """Muon, Jordan et al. 2024, with the scale of Liu et al. 2025 (arXiv 2502.16982), so that AdamW's rates suit it.

    Each matrix moves by about as much as with AdamW, and equally in all its directions. Other weights, such as lengths,
    are trained by AdamW at the same rate. Weights must be fp32.
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "lr": 1e-4,
        "momentum": 0.95,
        "weight_decay": 1e-2,
        "nesterov": True,
        "ns_steps": 5,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
    }

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See OneByOne."""
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if parameter.ndim < 2:
            _adam(parameter, gradient, state, group)
            return
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        matrix = direction.reshape(len(direction), -1)  # [rows, columns]
        rate = group["lr"] * _LIKE_ADAM * math.sqrt(max(matrix.shape))
        parameter.sub_(orthogonal(matrix, num_steps=group["ns_steps"]).view_as(parameter), alpha=rate)


def orthogonal(matrix: Tensor, *, num_steps: int) -> Tensor:
    """About the nearest matrix whose singular values are all 1: they end between 0.7 and 1.2.

    Args:
        matrix: fp32, [rows, columns].
        num_steps: steps of a Newton-Schulz iteration, computed in bf16 as by its authors.

    Returns:
        fp32, [rows, columns]. Source: Jordan et al. 2024.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).bfloat16()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(num_steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).float()


def _adam(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    beta1, beta2 = group["betas"]
    state["step"] += 1
    step = float(state["step"])
    mean: Tensor = state["exp_avg"].lerp_(gradient, 1 - beta1)
    square: Tensor = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    denominator = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))
