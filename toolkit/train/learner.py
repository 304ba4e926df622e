"""A model, its trained weights, and everything that updates them, as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from toolkit.config import TrainConfig
from toolkit.models.base_model import BaseModel
from toolkit.models.sharing import Sharing, share
from toolkit.optimizers.average import ExponentialMovingAverage
from toolkit.optimizers.gradients import Gradients, ShardedGradients
from toolkit.optimizers.optimizers import build_optimizer, by_rate
from toolkit.optimizers.schedules import schedule_of
from toolkit.optimizers.weight_update import WeightUpdate, build_update
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import Piece
from toolkit.randomness import Draws
from toolkit.train.trainable import TrainableWeights


@dataclass(frozen=True)
class Learner:
    """A model that is being trained.

    Attributes:
        model: the model that makes the predictions.
        weights: the trained weights: the model's own, or those of a network on top of it.
        optimizer: the optimizer of the trained weights; its state is part of a checkpoint.
        schedule: maps the number of updates done so far to a learning rate.
        update: applies gradients to the weights.
        average: exponential moving average of the weights, which is what users get; None if the job keeps none.
        sharing: what the ranks of the run share.
        pieces: what this process holds of each trained weight, in the optimizer's order.
    """

    model: BaseModel
    weights: TrainableWeights
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    update: WeightUpdate
    average: ExponentialMovingAverage | None = None
    sharing: Sharing = field(default_factory=Sharing)
    pieces: Sequence[Piece] = ()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the `with` block, the model holds the weights that users get."""
        if self.average is None:
            yield
            return
        with self.average.swapped_in():
            self.publish()
            yield
        self.publish()

    def publish(self) -> None:
        """Let all ranks have what each has changed of the trained weights; there is nothing to do for most runs."""
        self.model.layout.publish([weight for _, weight in self.weights.named_parameters()])


def build_learner(
    model: BaseModel, weights: TrainableWeights, train: TrainConfig, *, draws: Draws, ranks: Ranks
) -> Learner:
    """Build the learner of a job.

    Args:
        model: a model whose transformer is loaded.
        weights: the trained weights: the model's own, or those of a network on top of it.
        train: the job's `train` section.
        draws: the job's random draws.
        ranks: the processes that train together.

    Raises:
        UserError: the optimizer does not accept one of its options, or the ranks cannot share the model as asked.
    """
    sharing = share(model, train, ranks)
    named = weights.named_parameters()
    layout, trained = model.layout, [parameter for _, parameter in named]
    parameters = layout.own(trained)
    if layout.is_whole:
        gradients = Gradients(parameters, ranks)
    else:
        gradients = ShardedGradients(parameters, ranks, trained, layout)
    options = train.optimizer_params.model_dump(exclude_none=True)
    names = [name for name, _ in named]
    groups = by_rate(list(zip(names, parameters, strict=True)), weights.rates(train.lr))
    optimizer = build_optimizer(train.optimizer, groups, lr=train.lr, options=options)
    if any(not layout.is_spread(weight) for weight in trained) and not layout.is_whole:
        optimizer.register_step_post_hook(lambda *_: layout.publish(trained))
    pieces = [layout.piece(weight) for weight in trained]
    update = build_update(
        optimizer,
        parameters,
        max_norm=train.max_grad_norm,
        weights=train.full_finetune_weights,
        fused=train.fused_backward_pass,
        draws=draws,
        gradients=gradients,
        pieces=None if layout.is_whole else pieces,
    )
    average = None
    if train.ema_config is not None and train.ema_config.use_ema:
        average = ExponentialMovingAverage(parameters, train.ema_config.ema_decay)
    of_weight = {id(parameter): piece for parameter, piece in zip(parameters, pieces, strict=True)}
    in_order = [of_weight[id(parameter)] for group in groups for parameter in group["params"]]
    return Learner(model, weights, optimizer, schedule_of(train), update, average, sharing, in_order)
