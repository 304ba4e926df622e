"""Flow matching: the model learns the velocity from picture to noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch
from toolkit.objectives.losses import sample_loss
from toolkit.objectives.objective import ForwardPasses, Predict
from toolkit.objectives.path import mix
from toolkit.objectives.timesteps import TIMESTEPS, draw_sigma, sigma_range
from toolkit.objectives.weightings import WEIGHTINGS
from toolkit.randomness import Draws


@dataclass(frozen=True)
class VelocityObjective:
    """The error between the predicted and the true velocity at a drawn noise level.

    Attributes:
        timestep_type: how noise levels are drawn and weighed, a key of `TIMESTEPS`.
        loss_type: how the error is measured, a key of `LOSSES`.
        bias: which noise levels are drawn more, a key of `BIASES`.
        sigma_range: lowest and highest sigma that is drawn.
    """

    timestep_type: str
    loss_type: str = "mse"
    bias: str = "balanced"
    sigma_range: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """As the `train` section says."""
        return cls(
            timestep_type=train.timestep_type,
            loss_type=train.loss_type,
            bias=train.content_or_style,
            sigma_range=sigma_range(train.min_denoising_steps, train.max_denoising_steps),
        )

    def needs(self) -> ForwardPasses:
        """See Objective: one pass, with a gradient."""
        return ForwardPasses(with_gradient=1)

    def loss(self, batch: Batch, predict: Predict, draws: Draws) -> Mapping[str, Tensor]:
        """See Objective: the term `velocity`, [B]."""
        noise, sigma = self.draw(batch, draws)
        velocity = predict(mix(batch.latents, noise, sigma), sigma, batch.condition)  # [B, C, h, w]
        error = sample_loss(self.loss_type, velocity, predict.target(batch.latents, noise))  # [B]
        return {"velocity": error * WEIGHTINGS[TIMESTEPS[self.timestep_type].weighting](sigma)}

    def draw(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Noise [B, C, h, w] and sigma [B] of a batch, functions of its index alone."""
        count = (len(batch.latents),)
        low, high = self.sigma_range
        noise = draws.normal(tuple(batch.latents.shape), "noise", batch.index)
        sigma = draw_sigma(
            self.timestep_type,
            draws.normal(count, "timestep", batch.index),
            draws.uniform(count, "timestep", batch.index, "even"),
            num_tokens=batch.num_tokens,
            bias=self.bias,
            low=low,
            high=high,
        )
        return noise.to(batch.latents), sigma.to(batch.latents.device)
