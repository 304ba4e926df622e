"""Flow matching: the model learns the velocity from image to noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import TIMESTEPS, WEIGHTINGS
from toolkit.objectives.losses import sample_loss
from toolkit.objectives.objective import Predict
from toolkit.objectives.path import mix
from toolkit.objectives.timesteps import NUM_LEVELS, draw_sigma
from toolkit.randomness import Draws


@dataclass(frozen=True)
class VelocityObjective:
    """The error between the predicted and the true velocity at a drawn noise level.

    Attributes:
        timestep_type: how noise levels are drawn and weighted, a key of `TIMESTEPS`.
        loss_type: how the error is measured, a key of `LOSSES`.
        bias: which noise levels are drawn more often, a key of `BIASES`.
        steps: range to draw from: first and last index into 1,000 sorted noise levels, 0 being the noisiest.
    """

    timestep_type: str
    loss_type: str = "mse"
    bias: str = "balanced"
    steps: tuple[int, int] = (0, NUM_LEVELS - 1)

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        return cls(
            timestep_type=train.timestep_type,
            loss_type=train.loss_type,
            bias=train.content_or_style,
            steps=(train.min_denoising_steps, train.max_denoising_steps),
        )

    def loss(self, batch: Batch, predict: Predict, draws: Draws) -> Mapping[str, Tensor]:
        """See Objective. The only term is `velocity`, [B]."""
        noise, sigma = self.draw(batch, draws)
        velocity = predict(mix(batch.latents, noise, sigma), sigma, batch.condition)  # [B, C, h, w]
        error = sample_loss(self.loss_type, velocity, predict.target(batch.latents, noise))  # [B]
        return {"velocity": error * WEIGHTINGS[TIMESTEPS[self.timestep_type].weighting].load()(sigma)}

    def draw(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Noise [B, C, h, w] and sigma [B] of a batch; they depend only on its index."""
        count = (len(batch.latents),)
        noise = draws.normal(tuple(batch.latents.shape), "noise", batch.index)
        sigma = draw_sigma(
            self.timestep_type,
            draws.uniform(count, "timestep", batch.index, "even"),
            num_tokens=batch.num_tokens,
            bias=self.bias,
            steps=self.steps,
        )
        return noise.to(batch.latents), sigma.to(batch.latents.device)
