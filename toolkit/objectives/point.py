"""Where a training step looks: the noisy latents of a batch, and what the model and its base predict there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from toolkit.models.condition import Condition
from toolkit.objectives.batch import Batch
from toolkit.objectives.objective import Predict


@dataclass(frozen=True, eq=False)
class Point:
    """Noisy latents, and what they are predicted from.

    Attributes:
        batch: the batch.
        predict: makes the model's predictions.
        noisy_latents: mix of latents and noise, [B, C, h, w].
        sigma: share of noise, [B], fp32.
        condition: everything else that the prediction depends on: the batch's condition, perhaps with another guidance.
    """

    batch: Batch
    predict: Predict
    noisy_latents: Tensor
    sigma: Tensor
    condition: Condition

    def velocity(self, words: Tensor | None = None, *, network: float = 1.0) -> Tensor:
        """The prediction for words [B, L, D], or for the batch's own, [B, C, h, w], fp32.

        References and the inputs of adapters are those of the batch.
        """
        condition = self.condition if words is None else replace(self.condition, prompt_embeds=words)
        return self.predict(self.noisy_latents, self.sigma, condition, network=network).float()

    def base_for(self, words: Tensor) -> Tensor:
        """The prediction with the network off for words [B, L, D], without a gradient, [B, C, h, w], fp32."""
        return self.velocity(words, network=0.0)

    @cached_property
    def base(self) -> Tensor:
        """The prediction with the network off for the batch's own words; made once for all that read it."""
        return self.base_for(self.condition.prompt_embeds)
