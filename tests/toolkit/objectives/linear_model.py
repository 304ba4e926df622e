"""A model that an objective can be computed by hand with: words, network and guidance each add to the prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import OBJECTIVES
from toolkit.objectives.objective import Objective
from toolkit.objectives.path import mix
from toolkit.objectives.velocity import VelocityObjective
from toolkit.randomness import Draws

DRAWS = Draws(5)
SHAPE = (2, 3, 4, 6)


@dataclass
class Predict:
    """Predicts noisy_latents + words + network (w + words w2), and keeps what it was asked."""

    weight: Tensor = field(default_factory=lambda: torch.tensor([0.7, -0.4], requires_grad=True))
    calls: list[tuple[float, float | Tensor, bool]] = field(default_factory=list)

    def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1.0) -> Tensor:
        self.calls.append((network, condition.guidance, torch.is_grad_enabled() and network != 0))
        words = words_of(condition.prompt_embeds)
        learned = self.weight[0] + self.weight[1] * words
        if network == 0:
            return (noisy_latents + words).detach()
        return noisy_latents + words + network * learned

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        return noise - latents

    def sampling_sigmas(self, num_steps: int) -> Tensor:
        return torch.linspace(1, 0, num_steps + 1)


def words_of(embeds: Tensor) -> Tensor:
    """What words add to a prediction, [B, 1, 1, 1]."""
    return embeds.mean(dim=(1, 2)).view(-1, 1, 1, 1)


def words(*values: float) -> Tensor:
    """Embeddings [B, 1, 1] of which `words_of` gives these values."""
    return torch.tensor(values).view(-1, 1, 1)


def batch(index: int = 3, **fields: Any) -> Batch:
    """Two samples whose words add 0.5 and -1."""
    latents = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return Batch(index, latents, Condition(words(0.5, -1.0)), torch.ones(2), num_tokens=24, **fields)


def velocity_objective(**train: Any) -> VelocityObjective:
    objective = objective_of(**train)
    assert isinstance(objective, VelocityObjective)
    return objective


def objective_of(**train: Any) -> Objective:
    config = TrainConfig.model_validate({"timestep_type": "linear", **train})
    objective: Objective = OBJECTIVES[config.objective].load().from_config(config)
    return objective


def seen(objective: VelocityObjective, one: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The noise, sigma and noisy latents that an objective draws for a batch."""
    noise, sigma = objective.draw(one, DRAWS)
    return noise, sigma, mix(one.latents, noise, sigma)


def mean(error: Tensor) -> Tensor:
    """The mean over all but the first dimension."""
    return error.mean(dim=(1, 2, 3))
