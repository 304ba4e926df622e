"""The noise levels that a run trains at: which are drawn how often, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from toolkit.config import TrainConfig
from toolkit.objectives.batch import Batch
from toolkit.objectives.choices import TIMESTEPS, WEIGHTINGS
from toolkit.objectives.noise.timesteps import NUM_LEVELS, draw_sigma
from toolkit.randomness import Draws


@dataclass(frozen=True)
class NoiseLevels:
    """How noise levels are drawn and weighted.

    Attributes:
        kind: the distribution, a key of `TIMESTEPS`.
        params: settings of the distribution.
        bias: which noise levels are drawn more often, a key of `BIASES`.
        steps: range to draw from: first and last index into 1,000 sorted noise levels, 0 being the noisiest.
        weighting: how much each level counts, a key of `WEIGHTINGS`; None: as `kind` says.
        is_stratified: whether the draws of one step, over all its batches and ranks, are spread evenly.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    bias: str = "balanced"
    steps: tuple[int, int] = (0, NUM_LEVELS - 1)
    weighting: str | None = None
    is_stratified: bool = False

    @classmethod
    def from_config(cls, train: TrainConfig) -> Self:
        """The noise levels that a `train` section asks for."""
        params = train.timestep_params.model_dump()
        if train.timestep_type == "next_sample":
            params["num_steps"] = train.next_sample_timesteps
        return cls(
            train.timestep_type,
            params,
            bias=train.content_or_style,
            steps=(train.min_denoising_steps, train.max_denoising_steps),
            weighting=train.loss_weighting,
            is_stratified=train.stratified_timesteps,
        )

    def draw(self, batch: Batch, draws: Draws) -> Tensor:
        """Sigma of each sample of a batch, [B], fp32, on its device; depends only on its index."""
        return self.sigma(self.uniform(batch, draws), batch.num_tokens).to(batch.latents.device)

    def uniform(self, batch: Batch, draws: Draws) -> Tensor:
        """The random numbers, uniform over [0, 1), [B], that the levels are made of."""
        count = len(batch.latents)
        drawn = draws.uniform((count,), "timestep", batch.index, "even")
        if not self.is_stratified:
            return drawn
        num_batches = batch.batches_per_step
        step, part = divmod(batch.index, num_batches)
        strata = draws.python("strata", step).sample(range(num_batches), num_batches)[part]
        places = drawn.new_tensor(draws.python("strata", step, part).sample(range(count), count))
        return (places + (strata + drawn) / num_batches) / count

    def sigma(self, uniform: Tensor, num_tokens: int) -> Tensor:
        """Sigma, [B], fp32, for numbers uniform over [0, 1), [B], and images of so many tokens."""
        return draw_sigma(
            self.kind, uniform, num_tokens=num_tokens, bias=self.bias, steps=self.steps, params=self.params
        )

    def weight(self, sigma: Tensor) -> Tensor:
        """How much the loss at each level counts, [B]."""
        weight: Tensor = WEIGHTINGS[self.weighting or TIMESTEPS[self.kind].weighting].load()(sigma)
        return weight
