"""The input of an objective: a batch of samples of one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from toolkit.models.condition import Condition
from toolkit.randomness import Draws


@dataclass(frozen=True, eq=False)
class PreservedWords:
    """Words for which the prediction should stay that of the base model.

    Attributes:
        embeds: embeddings of these words, [B, L, D].
        weight: weight of each sample's preservation term, [B]; 0 if none of its words are preserved.
    """

    embeds: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size, on one device: that of the model, once they are trained on.

    Attributes:
        index: index of the batch in the job, counted from 0 over all ranks; it seeds noise and timesteps.
        latents: clean, normalised latents, [B, C, h, w], fp32.
        condition: everything else that the prediction depends on, for all samples.
        loss_weight: factor for each sample's loss, [B].
        num_tokens: number of image tokens of one sample, without its references.
        batches_per_step: number of batches of one step over all ranks.
        progress: share of the run's steps that are done, 0 to 1.
        network_weight: strength of the network for all samples.
        avoided: embeddings of what a guided teacher avoids, [B, L, D]; None if it is not guided.
        words: embeddings of other texts that the objective names, such as `unconditional`, each [B, L, D].
        preserved: words that are preserved; None if no sample has any.
        is_prior: whether each sample's target is the base model's prediction, [B]; None if that of none is.
        counterpart: clean latents of the other image of each pair, [B, C, h, w]; None without pairs.
        datasets: index of each sample's dataset, [B], int64; None if they are not told apart.
        mask: weight of each latent cell in the loss, [B, 1, h, w], 0..1; None if all have the same weight.
        noise: the batch's noise, [B, C, h, w], if it has been drawn ahead; see `noise_of`.
    """

    index: int
    latents: Tensor
    condition: Condition
    loss_weight: Tensor
    num_tokens: int
    batches_per_step: int = 1
    progress: float = 0.0
    avoided: Tensor | None = None
    words: Mapping[str, Tensor] = field(default_factory=dict)
    preserved: PreservedWords | None = None
    is_prior: Tensor | None = None
    counterpart: Tensor | None = None
    datasets: Tensor | None = None
    mask: Tensor | None = None
    noise: Tensor | None = None
    network_weight: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The batch on a device. Nothing waits for the copy of what is in pinned memory."""
        return _changed(self, lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pinned(self) -> Batch:
        """The batch with what is on the CPU in memory that a CUDA card reads by itself."""
        return _changed(self, lambda tensor: tensor.pin_memory() if tensor.device.type == "cpu" else tensor)


def noise_of(batch: Batch, draws: Draws) -> Tensor:
    """The noise of a batch, [B, C, h, w], like its latents; it depends only on the job's seed and the batch's index."""
    noise = drawn_noise(batch, draws) if batch.noise is None else batch.noise
    return noise.to(batch.latents)


def drawn_noise(batch: Batch, draws: Draws) -> Tensor:
    """The same on the CPU, fp32: 2.6 ms for a sample of 1024 x 1024 pixels."""
    return draws.normal(tuple(batch.latents.shape), "noise", batch.index)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a value in which all tensors are changed, however deep they lie."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _changed(inner, change) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_changed(inner, change) for inner in value)
    if isinstance(value, (Batch, Condition, PreservedWords)):
        return replace(value, **{one.name: _changed(getattr(value, one.name), change) for one in fields(value)})
    return value
