"""A slider between two prompts: at strength 1 the class is predicted more like one, at -1 more like the other.

The targets are made of the base model's predictions at the noisy latents of the images, whose content does not matter.

Source: Gandikota et al. 2023, Concept Sliders (arXiv 2311.12092), as in ai-toolkit's `concept_slider`, whose four terms
for enhancing and erasing are two, each twice.
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
from toolkit.objectives.params import SliderParams
from toolkit.objectives.path import mix
from toolkit.objectives.point import Point
from toolkit.randomness import Draws


@dataclass(frozen=True)
class ConceptSliderObjective:
    """The errors at both strengths in one step, and of an anchor, which must not change at either.

    Attributes:
        levels: which noise levels are drawn, and how much each counts.
        strength: how far the target is moved along the difference of the two prompts' predictions.
        anchor_strength: weight of the anchor.
        distance: how errors are measured.
    """

    levels: NoiseLevels
    strength: float = 3.0
    anchor_strength: float = 1.0
    distance: Distance = MSE

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the objective that a `train` section asks for."""
        params = train.objective_params
        assert isinstance(params, SliderParams)
        return cls(
            NoiseLevels.from_config(train),
            params.guidance_strength,
            params.anchor_strength,
            Distance.from_config(train),
        )

    def losses(self, batch: Batch, predict: Predict, draws: Draws) -> Iterator[Mapping[str, Tensor]]:
        """See Objective. The terms are `raised`, `lowered` and, with an anchor, `anchor`, each [B].

        Their sum is the mean over both strengths of (2 error of the class + anchor_strength error of the anchor) / 3.
        """
        noise = noise_of(batch, draws)
        sigma, words = self.levels.draw(batch, draws), batch.words
        point = Point(batch, predict, mix(batch.latents, noise, sigma), sigma, batch.condition)
        neutral = point.base_for(words["target"])
        apart = self.strength * (point.base_for(words["positive"]) - point.base_for(words["negative"]))
        anchor = point.base_for(words["anchor"]) if "anchor" in words else None
        weight = self.levels.weight(sigma) / 3
        for name, sign in (("raised", 1.0), ("lowered", -1.0)):
            target = normalised_like(neutral + sign * apart, neutral)
            predicted = point.velocity(words["target"], network=sign)
            yield {name: weight * self.distance(predicted, target, batch.mask)}
            if anchor is not None:
                kept = self.distance(point.velocity(words["anchor"], network=sign), anchor, batch.mask)
                yield {"anchor": weight * self.anchor_strength / 2 * kept}


def normalised_like(values: Tensor, other: Tensor) -> Tensor:
    """Values [B, C, h, w] with the mean and standard deviation that another has, sample by sample."""
    dims = (1, 2, 3)
    centred = values - values.mean(dim=dims, keepdim=True)
    scaled = centred / (values.std(dim=dims, keepdim=True) + 1e-8) * other.std(dim=dims, keepdim=True)
    return scaled + other.mean(dim=dims, keepdim=True)
