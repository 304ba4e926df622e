"""Mean flow without a derivative: the model learns in one step where several guided steps of the base lead.

u(z_t, r, t) is the mean velocity from t down to r: z_r = z_t - (t - r) u. The target is (z_t - z_r) / (t - r) with z_r
from Euler steps of the base model. With r from an adapter, the result samples with any number of steps. With the steps
of one schedule, r follows from t: the result is a plain LoRA.

Source of the mean velocity: Geng et al. 2025 (arXiv 2505.13447), whose derivative of u is replaced by the teacher's
steps: in bf16 a difference quotient of a network that takes sin(1000 t) is noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from toolkit.adapters.adapter_set import TARGET_SIGMA
from toolkit.config import TrainConfig
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch, noise_of
from toolkit.objectives.few_steps.spans import any_spans, scheduled_spans
from toolkit.objectives.few_steps.teacher import Teacher
from toolkit.objectives.losses import MSE, Distance
from toolkit.objectives.objective import Predict
from toolkit.objectives.params import MeanFlowParams
from toolkit.objectives.path import mix
from toolkit.randomness import Draws


@dataclass(frozen=True)
class MeanFlowObjective:
    """The error between the predicted and the teacher's mean velocity of a drawn step.

    Attributes:
        teacher: the base model with its guidance.
        teacher_steps: number of steps that the teacher takes for one of the model's.
        steps: train for this number of sampling steps; None for any number.
        distance: how the error is measured.
    """

    teacher: Teacher
    teacher_steps: int
    steps: int | None = None
    distance: Distance = MSE

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        params = train.objective_params
        assert isinstance(params, MeanFlowParams)
        return cls(Teacher(params.guidance_scale), params.teacher_steps, params.steps, Distance.from_config(train))

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The only term is `mean_flow`, [B]."""
        noise = noise_of(batch, draws)
        if self.steps is None:
            spans = any_spans(batch, predict, draws)
        else:
            spans = scheduled_spans(batch, predict, draws, num_steps=self.steps)
        start = mix(batch.latents, noise, spans.start)  # z_t, [B, C, h, w]
        with torch.no_grad():
            end = self.teacher.walk(batch, predict, start, spans.between(self.teacher_steps))  # z_r
        condition = ending_at(spans.end, replace(batch.condition, guidance=self.teacher.guidance))
        velocity = predict(start, spans.start, condition)  # [B, C, h, w]
        yield {"mean_flow": self.distance(velocity, (start - end) / spans.gap, batch.mask)}


def ending_at(sigma: Tensor, condition: Condition) -> Condition:
    """A condition that also says where the step ends, [B]."""
    return replace(condition, extras={**condition.extras, TARGET_SIGMA: sigma})
