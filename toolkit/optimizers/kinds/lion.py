"""Lion: steps of equal size in the direction of the sign of a momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import OneByOne
from toolkit.optimizers.stored.blocks import BITS_8, read, write


class Lion(OneByOne):
    """Lion, Chen et al. 2023 (arXiv 2302.06675), algorithm 2: one moment, and no division by a second."""

    codes: ClassVar[torch.dtype | None] = None

    settings: ClassVar[Mapping[str, Any]] = {"lr": 2e-5, "betas": (0.9, 0.99), "weight_decay": 0.0}

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See OneByOne."""
        beta1, beta2 = group["betas"]
        mean = read(state, "exp_avg", parameter)
        direction = mean.lerp(gradient, 1 - beta1).sign_()
        write(state, "exp_avg", mean.lerp_(gradient, 1 - beta2), self.codes)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])


class Lion8bit(Lion):
    """Lion with its moment in 8-bit floats."""

    codes = BITS_8
