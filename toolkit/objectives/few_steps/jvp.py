"""Mean flow by its identity, with the exact derivative of the network: for checking objectives that do without it.

u(z_t, r, t) is the mean velocity from t down to r. By its definition u = v - (t - r) du/dt, with the derivative along
the path: v in z, 1 in t and 0 in r. Forward-mode differentiation gives it in a pass without gradient, on the attention
that multiplies whole matrices: no faster one can be differentiated forwards.

Source: Geng et al. 2025 (arXiv 2505.13447), and its weight 1 / (error + 0.001).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch, noise_of
from toolkit.objectives.few_steps.mean_flow import ending_at
from toolkit.objectives.few_steps.spans import any_spans
from toolkit.objectives.few_steps.teacher import Teacher
from toolkit.objectives.losses import MSE, Distance
from toolkit.objectives.objective import Predict
from toolkit.objectives.params import VelocityParams
from toolkit.objectives.path import mix
from toolkit.randomness import Draws

_SMALL = 1e-3


@dataclass(frozen=True)
class JvpObjective:
    """The error between the predicted mean velocity of a drawn step, and what the identity makes of its derivative.

    Attributes:
        teacher: the base model with its guidance, which gives the velocity at the start of a step; None for that of the
            data.
        distance: how the error is measured.
    """

    teacher: Teacher | None
    distance: Distance = MSE

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        params = train.objective_params
        assert isinstance(params, VelocityParams)
        return cls(Teacher(params.guidance_scale) if params.has_teacher else None, Distance.from_config(train))

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The only term is `jvp`, [B]: the error divided by itself plus 0.001, so it is about 1."""
        noise = noise_of(batch, draws)
        spans, condition = any_spans(batch, predict, draws), batch.condition
        start = mix(batch.latents, noise, spans.start)  # z_t, [B, C, h, w]
        if self.teacher is None:
            velocity = predict.target(batch.latents, noise).float()
        else:
            velocity = self.teacher.velocity(batch, predict, start, spans.start)
            condition = replace(condition, guidance=self.teacher.guidance)
        condition = ending_at(spans.end, condition)

        def mean_velocity(latents: Tensor, sigma: Tensor) -> Tensor:
            return predict(latents, sigma, condition).float()

        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            inputs, direction = (start, spans.start), (velocity, torch.ones_like(spans.start))
            slope = torch.func.jvp(mean_velocity, inputs, direction)[1]  # du/dt, [B, C, h, w]
        error = self.distance(predict(start, spans.start, condition), velocity - spans.gap * slope, batch.mask)
        yield {"jvp": error / (error.detach() + _SMALL)}
