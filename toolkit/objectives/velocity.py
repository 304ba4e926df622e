"""Flow matching: the model learns the velocity from image to noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch, noise_of
from toolkit.objectives.choices import TERMS
from toolkit.objectives.guidance import GuidanceLoss, differential
from toolkit.objectives.losses import MSE, Distance
from toolkit.objectives.noise.levels import NoiseLevels
from toolkit.objectives.noise.next_sample import noise_of_next_sample
from toolkit.objectives.objective import Predict
from toolkit.objectives.path import mix
from toolkit.objectives.point import Point
from toolkit.objectives.preservation import Preservation, Term
from toolkit.randomness import Draws


@dataclass(frozen=True)
class VelocityObjective:
    """The error between the predicted and the true velocity at a drawn noise level.

    Attributes:
        levels: which noise levels are drawn, and how much each counts.
        distance: how the error is measured.
        terms: other terms of the same prediction.
        preservation: the term of the words that batches preserve, which are predicted for in a pass of their own.
        guidance: what takes the place of prediction and target for a guided model; None for neither.
        differential_scale: how far the target is moved away from the prediction; 1 leaves it.
    """

    levels: NoiseLevels
    distance: Distance = MSE
    terms: tuple[Term, ...] = ()
    preservation: Preservation = field(default_factory=Preservation)
    guidance: GuidanceLoss | None = None
    differential_scale: float = 1.0

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        return cls(
            NoiseLevels.from_config(train),
            Distance.from_config(train),
            terms=tuple(row.load().from_config(train) for row in TERMS.values() if row.is_on(train)),
            preservation=Preservation.from_config(train),
            guidance=GuidanceLoss.from_config(train),
            differential_scale=train.differential_guidance_scale if train.do_differential_guidance else 1.0,
        )

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The terms are `velocity` and those of `terms` and `preservation`, each [B]."""
        noise, sigma = self.draw(batch, draws)
        condition, scale = batch.condition, None
        if self.guidance is not None:
            scale = self.guidance.drawn(batch, draws)
            condition = replace(condition, guidance=scale)
        point = Point(batch, predict, mix(batch.latents, noise, sigma), sigma, condition)
        if self.levels.kind == "next_sample":
            noise = noise_of_next_sample(point, noise, **self.levels.params)
            point = replace(point, noisy_latents=mix(batch.latents, noise, sigma))
        velocity = point.velocity()  # [B, C, h, w]
        compared, target = velocity, predict.target(batch.latents, noise)
        if self.guidance is not None and scale is not None:
            compared, target = self.guidance.applied(point, velocity, target, scale)
        if batch.is_prior is not None:
            is_prior = batch.is_prior.view(-1, 1, 1, 1)
            compared, target = torch.where(is_prior, velocity, compared), torch.where(is_prior, point.base, target)
        if self.differential_scale != 1:
            target = differential(compared, target, self.differential_scale)
        losses = {"velocity": self.distance(compared, target, batch.mask) * self.levels.weight(sigma)}
        for term in self.terms:
            losses |= term.loss(point, velocity)
        yield losses
        if batch.preserved is not None:
            yield self.preservation.loss(point, batch.preserved)

    def draw(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Noise [B, C, h, w] and sigma [B] of a batch; they depend only on its index."""
        return noise_of(batch, draws), self.levels.draw(batch, draws)
