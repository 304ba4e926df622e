"""A slider between two images of each pair: at strength 1 the one is learned, at -1 the other.

Source: Gandikota et al. 2023, Concept Sliders (arXiv 2311.12092), visual sliders: the same noise for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch, noise_of
from toolkit.objectives.losses import MSE, Distance
from toolkit.objectives.noise.levels import NoiseLevels
from toolkit.objectives.objective import Predict
from toolkit.objectives.path import mix
from toolkit.randomness import Draws


@dataclass(frozen=True)
class ImageSliderObjective:
    """The error of the velocity towards an image at strength 1, and towards its counterpart at -1, in one step.

    Attributes:
        levels: which noise levels are drawn, and how much each counts.
        distance: how errors are measured.
    """

    levels: NoiseLevels
    distance: Distance = MSE

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        return cls(NoiseLevels.from_config(train), Distance.from_config(train))

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The terms are `raised` and `lowered`, each [B]; the loss is the mean of both errors."""
        assert batch.counterpart is not None, "the check has refused datasets without counterparts"
        noise = noise_of(batch, draws)
        sigma = self.levels.draw(batch, draws)
        for name, sign, latents in (("raised", 1.0, batch.latents), ("lowered", -1.0, batch.counterpart)):
            predicted = predict(mix(latents, noise, sigma), sigma, batch.condition, network=sign)
            error = self.distance(predicted, predict.target(latents, noise), batch.mask)
            yield {name: error * self.levels.weight(sigma) / 2}
