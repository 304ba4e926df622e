"""Automagic: each weight tensor has a learning rate of its own, which grows while its updates keep their signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import OneByOne


class Automagic(OneByOne):
    """The idea of ai-toolkit's optimizers of this name, as an ordinary step: it sees clipped, accumulated gradients.

    The update is the gradient divided by the root of its second moment, which is factored into rows and columns as in
    Adafactor (Shazeer & Stern 2018, arXiv 1804.04235), with a root mean square of at most 1. Its signs are compared
    with those of the last update: the score is the share that agrees minus the share that does not, -1 to 1, and the
    rate of the tensor is multiplied by 1 + `lr_bump` * score, within `min_lr` and `max_lr`. The first rate is `lr`;
    what multiplies the job's `lr` (a schedule, LoRA+) multiplies every rate. Weights must be fp32.
    """

    settings: ClassVar[Mapping[str, Any]] = {
        "lr": 1e-5,
        "beta2": 0.999,
        "eps": 1e-30,
        "clip_threshold": 1.0,
        "weight_decay": 0.0,
        "lr_bump": 0.1,
        "min_lr": 1e-7,
        "max_lr": 1e-3,
    }

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """See OneByOne."""
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["factor"] = torch.ones((), device=parameter.device)
            state["signs"] = torch.zeros_like(parameter, dtype=torch.int8)
        state["step"] += 1
        update = _normalised(gradient, state, group["beta2"], group["eps"])
        update.div_((update.square().mean().sqrt() / group["clip_threshold"]).clamp(min=1))
        signs = update.sign().to(torch.int8)
        score = (signs * state["signs"]).sum(dtype=torch.float32) / signs.numel()
        state["signs"] = signs
        first = self.defaults["lr"]
        factor = state["factor"].mul_(1 + group["lr_bump"] * score)
        factor.clamp_(min(1, group["min_lr"] / first), max(1, group["max_lr"] / first))
        rate = factor * group["lr"]
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(update.mul_(rate))


def _normalised(gradient: Tensor, state: dict[str, Any], beta2: float, eps: float) -> Tensor:
    """The gradient divided by the root of its second moment, of which matrices keep the means of rows and columns."""
    square = gradient.square().add_(eps)
    correction = 1 - beta2 ** float(state["step"])
    if gradient.ndim < 2:
        return gradient / _average(state, "square", square, beta2).div(correction).sqrt_()
    rows = _average(state, "rows", square.mean(dim=-1), beta2) / correction  # [..., rows]
    columns = _average(state, "columns", square.mean(dim=-2), beta2) / correction  # [..., columns]
    share = (rows / rows.mean(dim=-1, keepdim=True)).unsqueeze(-1)  # [..., rows, 1]
    return gradient / (share * columns.unsqueeze(-2)).sqrt_()


def _average(state: dict[str, Any], name: str, values: Tensor, beta: float) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(values)
    average: Tensor = state[name].lerp_(values, 1 - beta)
    return average
