"""What learns: a model with the weights that are trained, and all that changes them, as one value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from toolkit.config import TrainConfig
from toolkit.models.base_model import BaseModel
from toolkit.optimizers.average import ExponentialMovingAverage
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.schedules import learning_rate
from toolkit.optimizers.weight_update import WeightUpdate, build_update
from toolkit.parallel.ranks import Ranks
from toolkit.randomness import Draws
from toolkit.train.trainable import TrainableWeights


@dataclass(frozen=True)
class Learner:
    """A model that is being trained.

    Attributes:
        model: predicts.
        weights: what is trained of it or beside it.
        optimizer: of the weights; its state belongs to a checkpoint.
        schedule: updates done before -> learning rate.
        update: turns gradients into changed weights.
        average: slow average of the weights, if the job keeps one: it is what users get.
    """

    model: BaseModel
    weights: TrainableWeights
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    update: WeightUpdate
    average: ExponentialMovingAverage | None = None

    def averaged(self) -> AbstractContextManager[None]:
        """For the length of a `with` block, the model holds the weights that users get."""
        return self.average.swapped_in() if self.average else nullcontext()


def build_learner(
    model: BaseModel, weights: TrainableWeights, train: TrainConfig, *, draws: Draws, ranks: Ranks
) -> Learner:
    """The learner of a job.

    Args:
        model: with its transformer loaded.
        weights: those of it, or beside it, that are trained.
        train: the job's `train` section.
        draws: of the job.
        ranks: the processes that train together.

    Raises:
        UserError: an option that the optimizer does not take.
    """
    parameters = [parameter for _, parameter in weights.named_parameters()]
    options = train.optimizer_params.model_dump(exclude_none=True)
    optimizer = build_optimizer(train.optimizer, parameters, lr=train.lr, options=options)
    update = build_update(
        optimizer,
        parameters,
        max_norm=train.max_grad_norm,
        weights=train.full_finetune_weights,
        fused=train.fused_backward_pass,
        draws=draws,
        ranks=ranks,
    )
    average = None
    if train.ema_config is not None and train.ema_config.use_ema:
        average = ExponentialMovingAverage(parameters, train.ema_config.ema_decay)
    return Learner(model, weights, optimizer, schedule_of(train), update, average)


def schedule_of(train: TrainConfig) -> Callable[[int], float]:
    """The job's learning rate as a function of the updates done before."""
    return partial(
        learning_rate,
        train.lr_scheduler,
        lr=train.lr,
        num_steps=train.steps,
        warmup_steps=train.warmup_steps,
        min_lr=train.lr_scheduler_params.min_lr,
    )
