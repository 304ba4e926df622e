"""A model, its trained weights, and everything that updates them, as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from toolkit.config import TrainConfig
from toolkit.config.updates.average import AVERAGE
from toolkit.models.base_model import BaseModel
from toolkit.models.sharing import Sharing, share
from toolkit.optimizers.average import MovingAverage, build_averages
from toolkit.optimizers.choices import optimizer_row
from toolkit.optimizers.gradients import Gradients, ShardedGradients
from toolkit.optimizers.optimizers import build_optimizer, in_groups, options_of, without_decay
from toolkit.optimizers.own_average import users_weights
from toolkit.optimizers.row import is_class
from toolkit.optimizers.schedules import schedule_of
from toolkit.optimizers.trial import try_class
from toolkit.optimizers.weight_update import WeightUpdate, build_update
from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import Piece
from toolkit.randomness import Draws
from toolkit.runtime.devices import device_name
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
        averages: running averages of the weights, by the part of a checkpoint that each is kept in.
        sharing: what the ranks of the run share.
        pieces: what this process holds of each trained weight.
    """

    model: BaseModel
    weights: TrainableWeights
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    update: WeightUpdate
    averages: Mapping[str, MovingAverage] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)
    pieces: Sequence[Piece] = ()

    @property
    def device(self) -> str:
        """Name of the device that the model runs on, as people know it."""
        return device_name(self.model.device)

    @property
    def average(self) -> MovingAverage | None:
        """The average that users get; None if they get the weights as they are."""
        return self.averages.get(AVERAGE)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the `with` block, the model holds the weights that users get."""
        try:
            with self.average.swapped_in() if self.average else users_weights(self.optimizer):
                self._publish()
                yield
        finally:
            self._publish()

    def _publish(self) -> None:
        """Give all ranks the changes that each has made to the trained weights; most runs have nothing to do."""
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
    names = [name for name, _ in named]
    own = list(zip(names, parameters, strict=True))
    groups = in_groups(own, weights.rates(train.lr), without_decay(names, train.optimizer_params))
    optimizer = build_optimizer(train.optimizer, groups, lr=train.lr, options=options_of(train.optimizer_params))
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
        is_elementwise=optimizer_row(train.optimizer).is_elementwise,
    )
    averages = build_averages(parameters, train.ema_config)
    return Learner(model, weights, optimizer, schedule_of(train), update, averages, sharing, pieces)


def try_if_class(train: TrainConfig, device: torch.device) -> None:
    """Try the optimizer on a small problem if it is the user's own class.

    Raises:
        UserError: there is no such class, or a run could not rely on it.
    """
    if is_class(train.optimizer):
        try_class(train.optimizer, lr=train.lr, options=options_of(train.optimizer_params), device=device)
