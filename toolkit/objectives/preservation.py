"""Parts of the loss that compare the prediction with that of the base model: the model with the network off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import PreservedWords
from toolkit.objectives.losses import masked_mean
from toolkit.objectives.point import Point


class Term(Protocol):
    """A term of the loss beside an objective's own, of the same prediction."""

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the term that a `train` section asks for."""
        ...

    def loss(self, point: Point, velocity: Tensor) -> Mapping[str, Tensor]:
        """Named terms, each [B].

        Args:
            point: the noisy latents and condition of the step.
            velocity: the prediction there, [B, C, h, w], fp32, with its gradient.
        """
        ...


@dataclass(frozen=True)
class Preservation:
    """The prediction for other words stays that of the base model.

    Source: prior preservation, Ruiz et al. 2023 (arXiv 2208.12242), with predictions in place of generated images, as
    in ai-toolkit's `diff_output_preservation` and `blank_prompt_preservation`.

    Attributes:
        multiplier: weight of the term.
    """

    multiplier: float = 1.0

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """Create the term that a `train` section asks for."""
        if train.blank_prompt_preservation:
            return cls(train.blank_prompt_preservation_multiplier)
        return cls(train.diff_output_preservation_multiplier)

    def loss(self, point: Point, preserved: PreservedWords) -> Mapping[str, Tensor]:
        """The term `preservation`, [B], of a prediction of its own.

        Args:
            point: the noisy latents and condition of the step.
            preserved: the words, and how much each sample's count.
        """
        base = point.base_for(preserved.embeds)
        error = (point.velocity(preserved.embeds) - base).square()
        return {"preservation": self.multiplier * preserved.weight * error.mean(dim=(1, 2, 3))}


@dataclass(frozen=True)
class OutsidePrior:
    """Outside of the mask, the prediction stays that of the base model.

    Attributes:
        multiplier: weight of the term.
    """

    multiplier: float

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """See Term."""
        return cls(train.inverted_mask_prior_multiplier)

    def loss(self, point: Point, velocity: Tensor) -> Mapping[str, Tensor]:
        """See Term. The only term is `outside_prior`; there is none in a batch without masks."""
        mask = point.batch.mask
        if mask is None:
            return {}
        return {"outside_prior": self.multiplier * masked_mean((velocity - point.base).square(), 1 - mask)}


@dataclass(frozen=True)
class PriorDivergence:
    """The prediction moves away from that of the base model. The difference of two squares has no minimum."""

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """See Term."""
        return cls()

    def loss(self, point: Point, velocity: Tensor) -> Mapping[str, Tensor]:
        """See Term. The only term is `prior_divergence`, which is negative."""
        return {"prior_divergence": -masked_mean((velocity - point.base).square(), point.batch.mask)}
