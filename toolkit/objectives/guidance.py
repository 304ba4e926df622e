"""Losses that keep or use guidance: the guidance-aware loss in both forms, and differential guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import UNCONDITIONAL
from toolkit.objectives.point import Point
from toolkit.randomness import Draws


@dataclass(frozen=True)
class GuidanceLoss:
    """The loss of a model whose prediction v is guided: v = u + s (true - u), with u that for the empty prompt.

    A model whose guidance is distilled into it unlearns it if v is fitted to the true velocity. Source: ai-toolkit's
    `do_guidance_loss`; the mirrored form is that of musubi-tuner and DiffSynth-Studio. u is the model's own, with the
    network on and without a gradient.

    Attributes:
        scale: the smallest and the largest s.
        is_falling: whether s falls to 1 without noise.
        is_mirrored: whether (v + (s - 1) u) / s is compared with the true velocity, not v with u + s (true - u).
        is_projected: whether u is scaled by its projection on the true velocity (CFG-Zero*, Fan et al. 2025, arXiv
            2503.18886).
    """

    scale: tuple[float, float]
    is_falling: bool = False
    is_mirrored: bool = False
    is_projected: bool = False

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self | None:
        """The loss that a `train` section asks for; None without one."""
        if not train.do_guidance_loss:
            return None
        return cls(
            (train.guidance_loss_target[0], train.guidance_loss_target[-1]),
            is_falling=train.guidance_loss_schedule == "sigma",
            is_mirrored=train.guidance_loss_form == "mirrored",
            is_projected=train.do_guidance_loss_cfg_zero,
        )

    def drawn(self, batch: Batch, draws: Draws) -> Tensor:
        """The s of each sample, [B], fp32, which also goes into the guidance embedding of all its passes."""
        first, last = self.scale
        share = draws.uniform((len(batch.latents),), "guidance", batch.index).to(batch.latents.device)
        return first + (last - first) * share

    def applied(self, point: Point, velocity: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared in place of the prediction and the true velocity, both [B, C, h, w], fp32.

        `scale` is what `drawn` gives.
        """
        with torch.no_grad():
            free = point.velocity(point.batch.words[UNCONDITIONAL])  # u
        if self.is_projected:
            free = free * _projection(target.float(), free)
        s = (1 + (scale - 1) * point.sigma if self.is_falling else scale).view(-1, 1, 1, 1)
        if self.is_mirrored:
            return (velocity + (s - 1) * free) / s, target
        return velocity, free + s * (target - free)


def differential(velocity: Tensor, target: Tensor, scale: float) -> Tensor:
    """The target moved away from the prediction, [B, C, h, w]: the squared error's gradient is `scale` times as large.

    Source: ai-toolkit's `do_differential_guidance`. The squared error itself grows by the square of the scale.
    """
    velocity = velocity.detach()
    return velocity + scale * (target - velocity)


def _projection(target: Tensor, free: Tensor) -> Tensor:
    """<target, u> / <u, u> of each sample, [B, 1, 1, 1]."""
    along = (target * free).sum(dim=(1, 2, 3), keepdim=True)
    return along / (free.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
