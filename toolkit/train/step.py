"""One optimizer step: batch, noisy latents, velocity, loss, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.config import TrainConfig
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition
from toolkit.objectives.losses import sample_loss
from toolkit.objectives.timesteps import draw_sigma, sigma_range, sigma_weight
from toolkit.optimizers.average import ExponentialMovingAverage
from toolkit.optimizers.optimizers import set_learning_rate
from toolkit.optimizers.schedules import learning_rate
from toolkit.optimizers.weight_update import AllAtOnce, WeightUpdate
from toolkit.randomness import Draws
from toolkit.train.precision import autocast

NUM_TIMESTEPS = 1000


@dataclass(frozen=True)
class Batch:
    """Samples of one size, on the model's device.

    Attributes:
        index: micro-batch of the job, counted from 0; noise and timesteps are drawn from it.
        latents: clean, normalised, [B, C, h, w], fp32.
        prompt_embeds: [B, L, D].
        loss_weight: factor of each sample's loss, [B].
        num_tokens: image tokens of one sample, its references not counted.
        references: clean latents of the first, second, ... reference of each sample, each [B, C, h_i, w_i], fp32.
    """

    index: int
    latents: Tensor
    prompt_embeds: Tensor
    loss_weight: Tensor
    num_tokens: int
    references: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class StepResult:
    """What a step did. Tensors stay on the device, so that nothing here waits for it."""

    loss: Tensor
    grad_norm: Tensor
    lr: float


def mix(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """A point on the straight path from data to noise.

    Args:
        latents: clean latents, [B, C, h, w].
        noise: standard normal, [B, C, h, w].
        sigma: share of noise per sample, [B], fp32, 0 (clean) to 1 (noise).

    Returns:
        (1 - sigma) * latents + sigma * noise, [B, C, h, w].

    Source: linear path of rectified flow, Liu et al. 2022 (arXiv 2209.03003), with noise as the end point.
    """
    sigma = sigma.view(-1, 1, 1, 1)
    return (1 - sigma) * latents + sigma * noise


class Stepper:
    """Takes steps. It knows nothing of files, samples or progress."""

    def __init__(
        self,
        model: BaseModel,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        draws: Draws,
        *,
        ema: ExponentialMovingAverage | None = None,
        has_dropout: bool = False,
        update: WeightUpdate | None = None,
    ) -> None:
        self.model = model
        self.parameters = list(parameters)
        self.optimizer = optimizer
        self.config = config
        self.draws = draws
        self.ema = ema
        self.has_dropout = has_dropout
        self.update = update or AllAtOnce(optimizer, self.parameters, max_norm=config.max_grad_norm)

    def train_step(self, step: int, batches: Sequence[Batch]) -> StepResult:
        """One update from all of `batches`; the gradient is the mean over their samples.

        Args:
            step: updates done before this one.
            batches: one, or as many as gradients are accumulated over.
        """
        num_samples = sum(len(batch.latents) for batch in batches)
        total = torch.zeros((), device=self.model.device)
        lr = self._set_learning_rate(step)
        self.update.begin(step)
        for batch in batches:
            loss = self.loss(batch).sum() / num_samples
            loss.backward()
            total += loss.detach()
        grad_norm = self.update.finish(step)
        if self.ema is not None:
            self.ema.update()
        return StepResult(total, grad_norm, lr)

    def loss(self, batch: Batch) -> Tensor:
        """Weighted loss of each sample, [B]."""
        noise, sigma = self.draw(batch)
        noisy_latents = mix(batch.latents, noise, sigma)
        if self.has_dropout:
            torch.manual_seed(self.draws.number("dropout", batch.index))
        condition = Condition(
            batch.prompt_embeds,
            guidance=self.config.cfg_scale,
            bypass_guidance_embedding=self.config.bypass_guidance_embedding,
            references=batch.references,
        )
        with autocast(self.model.device, self.model.dtype):
            velocity = self.model.get_noise_prediction(noisy_latents, NUM_TIMESTEPS * sigma, condition)
        target = self.model.get_loss_target(batch.latents, noise)
        loss = sample_loss(self.config.loss_type, velocity, target)  # [B]
        return loss * sigma_weight(self.config.timestep_type, sigma) * batch.loss_weight

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise [B, C, h, w] and sigma [B] of a batch, functions of its index alone."""
        count, config = len(batch.latents), self.config
        noise = self.draws.normal(tuple(batch.latents.shape), "noise", batch.index)
        low, high = sigma_range(config.min_denoising_steps, config.max_denoising_steps)
        sigma = draw_sigma(
            config.timestep_type,
            self.draws.normal((count,), "timestep", batch.index),
            self.draws.uniform((count,), "timestep", batch.index, "even"),
            num_tokens=batch.num_tokens,
            bias=config.content_or_style,
            low=low,
            high=high,
        )
        return noise.to(batch.latents), sigma.to(batch.latents.device)

    def _set_learning_rate(self, step: int) -> float:
        config = self.config
        lr = learning_rate(
            config.lr_scheduler,
            step,
            lr=config.lr,
            num_steps=config.steps,
            warmup_steps=config.warmup_steps,
            min_lr=config.lr_scheduler_params.min_lr,
        )
        set_learning_rate(self.optimizer, lr)
        return lr
