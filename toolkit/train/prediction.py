"""The model as an objective sees it, for one batch: takes care of precision, dropout and the network's strength."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast
from toolkit.train.trainable import TrainableWeights

NUM_TIMESTEPS = 1000


class Prediction:
    """Implements `objectives.Predict`. Dropout depends only on the batch's index and the number of earlier passes.

    Args:
        model: the model.
        weights: the trained weights.
        draws: the job's randomness.
        index: index of the batch.
        num_tokens: number of image tokens of one sample.
        strength: strength of the network in this batch; `network` of a pass multiplies it.

    Attributes:
        sigma: noise levels of the first pass that has a gradient, [B]; None before it.
    """

    def __init__(
        self,
        model: BaseModel,
        weights: TrainableWeights,
        draws: Draws,
        *,
        index: int,
        num_tokens: int,
        strength: float = 1.0,
    ) -> None:
        self.model = model
        self.weights = weights
        self.draws = draws
        self.index = index
        self.num_tokens = num_tokens
        self.strength = strength
        self.sigma: Tensor | None = None
        self._num_passes = 0

    def __call__(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition, *, network: float = 1.0) -> Tensor:
        """See Predict."""
        strength = self._at(network)
        if network == 0 or not torch.is_grad_enabled():
            with strength, self._as_teacher():
                return self._predict(noisy_latents, sigma, condition)
        if self.weights.has_dropout:
            counters = (self.index,) if self._num_passes == 0 else (self.index, self._num_passes)
            torch.manual_seed(self.draws.number("dropout", *counters))
        self._num_passes += 1
        self.sigma = sigma if self.sigma is None else self.sigma
        with strength:
            return self._predict(noisy_latents, sigma, condition)

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """See Predict."""
        return self.model.get_loss_target(latents, noise)

    def sampling_sigmas(self, num_steps: int) -> Tensor:
        """See Predict."""
        return self.model.get_sampling_sigmas(num_steps, self.num_tokens).to(self.model.device)

    def _at(self, network: float) -> AbstractContextManager[None]:
        """Everything trained, scaled by `network`; the network also by the batch's strength."""
        if self.strength != 1:
            return self.weights.sampled(network * self.strength, network)
        return nullcontext() if network == 1 else self.weights.multiplied(network)

    def _predict(self, noisy_latents: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        with (
            # copies of all weights, which are gathered block by block, would fill the card
            autocast(self.model.device, self.model.dtype, keeps_copies=self.model.layout.is_whole),
            self.weights.adapters.reading(condition, num_noisy=self.num_tokens) as condition,
        ):
            return self.model.get_noise_prediction(noisy_latents, NUM_TIMESTEPS * sigma, condition)

    @contextmanager
    def _as_teacher(self) -> Iterator[None]:
        transformer = self.model.transformer
        transformer.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            transformer.train()
