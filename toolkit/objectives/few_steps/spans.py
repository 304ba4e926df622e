"""The steps that a few-step model is trained for: where each starts and ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.objectives.batch import Batch
from toolkit.objectives.noise.timesteps import shifted
from toolkit.objectives.objective import Predict
from toolkit.randomness import Draws

SMALLEST_GAP = 0.02
# Of all steps that start at pure noise, and of all that end at the clean image: every sampler's first and last step do.
END_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Spans:
    """A step of each sample.

    Attributes:
        start: noise level t at which it starts, [B], fp32.
        end: noise level r < t at which it ends, [B], fp32, 0 for the clean image.
        shift: shift of a sampler's steps towards high noise; 1 for evenly spaced steps.
    """

    start: Tensor
    end: Tensor
    shift: float

    @property
    def gap(self) -> Tensor:
        """t - r, [B, 1, 1, 1]."""
        return (self.start - self.end).view(-1, 1, 1, 1)

    def between(self, num_parts: int) -> list[Tensor]:
        """Noise levels that cut each step into parts as a sampler would: num_parts + 1 of [B], from start to end."""
        first, last = shifted(self.start, 1 / self.shift), shifted(self.end, 1 / self.shift)
        shares = [part / num_parts for part in range(1, num_parts)]
        inner = [shifted(first + share * (last - first), self.shift) for share in shares]
        return [self.start, *inner, self.end]


def shift_of(predict: Predict) -> float:
    """The shift of the model's own sampler: where the middle of two steps lies."""
    middle = float(predict.sampling_sigmas(2)[1])
    return middle / (1 - middle)


def any_spans(batch: Batch, predict: Predict, draws: Draws) -> Spans:
    """Steps of any size at least `SMALLEST_GAP`, drawn where the model's sampler steps."""
    count = len(batch.latents)
    shift = shift_of(predict)
    pair = shifted(draws.uniform((2, count), "step", batch.index), shift)  # [2, B]
    is_first, is_last = draws.uniform((2, count), "step", batch.index, "ends") < END_SHARE  # [B] each
    start = torch.where(is_first, 1.0, pair.amax(dim=0)).clamp(min=SMALLEST_GAP)
    end = torch.where(is_last, 0.0, torch.minimum(pair.amin(dim=0), start - SMALLEST_GAP))
    return Spans(start.to(batch.latents.device), end.to(batch.latents.device), shift)


def scheduled_spans(batch: Batch, predict: Predict, draws: Draws, *, num_steps: int) -> Spans:
    """For each sample one of the steps of the model's sampler when it makes `num_steps`."""
    sigmas = predict.sampling_sigmas(num_steps)
    which = (draws.uniform((len(batch.latents),), "step", batch.index) * num_steps).long().clamp(max=num_steps - 1)
    which = which.to(sigmas.device)
    return Spans(sigmas[which], sigmas[which + 1], shift_of(predict))
