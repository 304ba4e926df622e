"""What an objective is given to learn from: some samples of one size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toolkit.models.condition import Condition


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size, on the model's device.

    Attributes:
        index: number of the batch in the job, counted from 0 over all ranks; noise and timesteps are drawn from it.
        latents: clean, normalised, [B, C, h, w], fp32.
        condition: what the prediction depends on besides, of all samples.
        loss_weight: factor of each sample's loss, [B].
        num_tokens: image tokens of one sample, its references not counted.
    """

    index: int
    latents: Tensor
    condition: Condition
    loss_weight: Tensor
    num_tokens: int
