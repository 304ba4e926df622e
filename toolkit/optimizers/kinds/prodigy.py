"""Prodigy: Adam whose step size follows from how far the weights have moved along the gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.optimizers.kinds.one_by_one import Configured
from toolkit.optimizers.stored.blocks import BITS_8, read, write


class Prodigy(Configured):
    """Prodigy, Mishchenko & Defazio 2024 (arXiv 2306.06101), algorithm 4, with decoupled weight decay.

    All weights have one step size `d`: an estimate of the distance to the solution. It is multiplied by `lr`, which
    should be 1. Moments are of `d * gradient`. Weights must be fp32. With `decouple` off, weight decay is added to the
    gradient, as Adam had it.

    Attributes:
        codes: how the moments are stored; None for fp32.
        every: of so many values, one counts in the estimate; the start and `s` are kept for those only.
    """

    codes: ClassVar[torch.dtype | None] = None
    every: ClassVar[int] = 1

    settings: ClassVar[Mapping[str, Any]] = {
        "lr": 1.0,
        "betas": (0.9, 0.999),
        "beta3": None,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "decouple": True,
        "d0": 1e-6,
        "d_coef": 1.0,
        "growth_rate": math.inf,
        "use_bias_correction": False,
        "safeguard_warmup": False,
    }

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            group.update({"d": group["d0"], "d_max": group["d0"], "d_numerator": 0.0, "k": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "closures are not supported"
        trained = [(weight, group) for group in self.param_groups for weight in group["params"]]
        trained = [(weight, group) for weight, group in trained if weight.grad is not None]
        if not trained:
            return
        one = self.param_groups[0]  # what is estimated is the same in all groups
        assert all(group["lr"] == one["lr"] for group in self.param_groups), "there is a single step size"
        beta1, beta2 = one["betas"]
        beta3 = math.sqrt(beta2) if one["beta3"] is None else one["beta3"]
        correction = 1.0
        if one["use_bias_correction"]:
            correction = math.sqrt(1 - beta2 ** (one["k"] + 1)) / (1 - beta1 ** (one["k"] + 1))
        rate = one["d"] * one["lr"] * correction
        sums = []
        for weight, group in trained:
            gradient = weight.grad.float()
            if not group["decouple"]:
                gradient = gradient.add(weight, alpha=group["weight_decay"])
            sums.append(self._observe(weight, gradient, one, rate=rate, beta3=beta3))
        moved, path = torch.stack([found.to(sums[0].device) for found in sums]).sum(dim=0).tolist()
        if path:
            self._estimate(one, moved * rate * one["d"] / one["d0"], path, beta3=beta3)
        for weight, group in trained:
            state = self.state[weight]
            denominator = read(state, "exp_avg_root", weight).add(one["d"] * one["eps"])
            if group["decouple"]:
                weight.mul_(1 - group["weight_decay"] * rate)
            weight.addcdiv_(read(state, "exp_avg", weight), denominator, value=-rate)
        learned = {name: one[name] for name in ("d", "d_max", "d_numerator")}
        for group in self.param_groups:
            group.update(learned)
            group["k"] += 1

    def _observe(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], *, rate: float, beta3: float) -> Tensor:
        """Take a gradient into the moments. Returns [2]: the move along it, and the length of all of them together."""
        state = self.state[weight]
        beta1, beta2 = group["betas"]
        few, place = gradient.flatten()[:: self.every], weight.flatten()[:: self.every]
        if not state:
            state["start"], state["s"] = place.clone(), torch.zeros_like(few)
        d, d0 = group["d"], group["d0"]
        mean = read(state, "exp_avg", weight).lerp_(gradient * d, 1 - beta1)
        square = read(state, "exp_avg_root", weight).square_()
        root = square.mul_(beta2).addcmul_(gradient, gradient, value=d * d * (1 - beta2)).sqrt_()
        write(state, "exp_avg", mean, self.codes)
        write(state, "exp_avg_root", root, self.codes)
        state["s"].mul_(beta3).add_(few, alpha=d / d0 * (d if group["safeguard_warmup"] else rate))
        return torch.stack([torch.dot(few, state["start"] - place), state["s"].abs().sum()])

    @staticmethod
    def _estimate(group: dict[str, Any], moved: float, path: float, *, beta3: float) -> None:
        group["d_numerator"] = beta3 * group["d_numerator"] + moved
        found = group["d_coef"] * group["d_numerator"] / path
        d = max(group["d"], found) if group["d"] == group["d0"] else group["d"]
        group["d_max"] = max(group["d_max"], found)
        group["d"] = min(group["d_max"], d * group["growth_rate"])


class Prodigy8bit(Prodigy):
    """Prodigy with its moments in 8-bit floats, and an estimate from every eleventh value."""

    codes = BITS_8
    every = 11
