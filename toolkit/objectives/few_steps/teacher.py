"""The base model as a teacher: its guided velocity, without anything that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from toolkit.objectives.batch import Batch
from toolkit.objectives.objective import Predict


@dataclass(frozen=True)
class Teacher:
    """A guided base model.

    Attributes:
        guidance: guidance scale: for true guidance if a batch says what to avoid, otherwise for the model's guidance
            embedding.
    """

    guidance: float

    def velocity(self, batch: Batch, predict: Predict, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """The guided velocity at noise levels [B], [B, C, h, w], fp32."""
        condition = replace(batch.condition, guidance=self.guidance)
        wanted = predict(noisy_latents, sigma, condition, network=0.0).float()
        if batch.avoided is None:
            return wanted
        condition = replace(condition, prompt_embeds=batch.avoided)
        avoided = predict(noisy_latents, sigma, condition, network=0.0).float()
        return avoided + self.guidance * (wanted - avoided)

    def walk(self, batch: Batch, predict: Predict, noisy_latents: Tensor, sigmas: Sequence[Tensor]) -> Tensor:
        """Where Euler steps between these noise levels, each [B], lead, [B, C, h, w], fp32."""
        for start, end in pairwise(sigmas):
            step = (end - start).view(-1, 1, 1, 1)
            noisy_latents = noisy_latents + step * self.velocity(batch, predict, noisy_latents, start)
        return noisy_latents
