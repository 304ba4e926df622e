"""Alpha flow: a mean flow that learns from itself, with one pass instead of a teacher's many steps.

A step from t to r is cut at s = t - alpha (t - r). Up to s it follows the velocity v at its start, from s to r the
model's own mean velocity: the target of u(z_t, r, t) is alpha v + (1 - alpha) u(z_s, r, s) with z_s = z_t - (t - s) v.
alpha = 1 is flow matching; towards 0 the target becomes that of a mean flow.

Source: Zhang et al. 2025 (arXiv 2510.20771).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch, noise_of
from toolkit.objectives.few_steps.mean_flow import ending_at
from toolkit.objectives.few_steps.spans import any_spans
from toolkit.objectives.few_steps.teacher import Teacher
from toolkit.objectives.losses import MSE, Distance
from toolkit.objectives.objective import Predict
from toolkit.objectives.params import AlphaFlowParams
from toolkit.objectives.path import mix
from toolkit.randomness import Draws


@dataclass(frozen=True)
class AlphaFlowObjective:
    """The error between the predicted mean velocity of a drawn step, and one that is made of two parts.

    Attributes:
        teacher: the base model with its guidance, which gives the velocity at the start of a step; None for that of the
            data.
        alphas: share of a step that follows that velocity, at the first and at the last step of the run.
        distance: how the error is measured.
    """

    teacher: Teacher | None
    alphas: tuple[float, float] = (1.0, 0.25)
    distance: Distance = MSE

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        params = train.objective_params
        assert isinstance(params, AlphaFlowParams)
        teacher = Teacher(params.guidance_scale) if params.velocity == "teacher" else None
        return cls(teacher, (params.alpha_start, params.alpha_end), Distance.from_config(train))

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The only term is `alpha_flow`, [B]."""
        noise = noise_of(batch, draws)
        spans, alpha = any_spans(batch, predict, draws), self.alpha(batch.progress)
        start, condition = mix(batch.latents, noise, spans.start), batch.condition
        if self.teacher is None:
            velocity = predict.target(batch.latents, noise).float()
        else:
            velocity = self.teacher.velocity(batch, predict, start, spans.start)
            condition = replace(condition, guidance=self.teacher.guidance)
        condition = ending_at(spans.end, condition)
        cut = spans.start - alpha * (spans.start - spans.end)  # s, [B]
        with torch.no_grad():
            rest = predict(start - alpha * spans.gap * velocity, cut, condition).float()  # u(z_s, r, s)
        predicted = predict(start, spans.start, condition)  # [B, C, h, w]
        target = alpha * velocity + (1 - alpha) * rest
        yield {"alpha_flow": self.distance(predicted, target, batch.mask)}

    def alpha(self, progress: float) -> float:
        """The share at a point of the run, 0 to 1: from the first to the last along a geometric curve."""
        first, last = self.alphas
        return float(first * (last / first) ** progress)
