"""The gradients of a step: of one process, or summed over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from toolkit.parallel.ranks import Ranks
from toolkit.parallel.weight_layout import WeightLayout


class Gradients:
    """The gradients of all trained weights. This is the only place where processes exchange them.

    Losses are divided by the number of samples on all ranks, so the sum over ranks is the gradient of the whole step.

    Attributes:
        parameters: the trained weights, in the same order on every rank.
        ranks: the processes that train together.
    """

    def __init__(self, parameters: Sequence[Tensor], ranks: Ranks) -> None:
        self.parameters = list(parameters)
        self.ranks = ranks

    def sum(self) -> None:
        """Replace every gradient by its sum over all ranks, once the last batch of the step has gone backward.

        A weight may have a gradient on some ranks only: an adapter has none where the images of all batches are left
        out. It counts as zero there. A weight that has none on any rank stays without, as in a single process:
        optimizers decay a weight whose gradient is zero, and leave one without a gradient alone.
        """
        sum_gradients(self.parameters, self.ranks)

    def sum_one(self, index: int) -> None:
        """The same for a single weight, which has its gradient on every rank at the same point of the backward pass."""
        gradient = self.parameters[index].grad
        assert gradient is not None
        self.ranks.sum_tensors([gradient])

    def on_arrival(self, index: int, hook: Callable[[], None]) -> None:
        """Call `hook` whenever the gradient of a weight is complete here, in the middle of the backward pass."""
        self.parameters[index].register_post_accumulate_grad_hook(lambda _: hook())

    def norm_of_all(self, norm: Tensor) -> Tensor:
        """The norm of the whole gradient, given that of the summed gradients that this rank holds."""
        return norm


def drop_if_broken(gradients: Sequence[Tensor], norm: Tensor) -> None:
    """Set gradients to zero if their norm is not finite, without asking the device for it.

    An update from zeros moves weights by what the optimizer remembers at most, while a single NaN in a weight, or in
    what is remembered of it, would end the training.
    """
    is_broken = ~torch.isfinite(norm)
    for gradient in gradients:
        gradient.masked_fill_(is_broken.to(gradient.device), 0)


def sum_gradients(parameters: Sequence[Tensor], ranks: Ranks) -> None:
    """See Gradients.sum."""
    if ranks.world == 1 or not parameters:
        return
    missing = [index for index, parameter in enumerate(parameters) if parameter.grad is None]
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
    counts = torch.ones(len(gradients), device=gradients[0].device)  # ranks that have a gradient, for each weight
    counts[missing] = 0
    ranks.sum_tensors([*gradients, counts])
    for index in missing:
        if counts[index]:
            parameters[index].grad = gradients[index]


class ShardedGradients(Gradients):
    """The same for weights that are spread over the ranks: the backward pass leaves each rank the sum of its rows.

    Every weight that is spread must have a gradient on all ranks or on none. Gradients of weights that are whole on
    every rank are summed here, before each rank takes its rows.

    Attributes:
        weights: the spread weights, in the order of `parameters`, which are this rank's rows of them.
    """

    def __init__(
        self, parameters: Sequence[Tensor], ranks: Ranks, weights: Sequence[nn.Parameter], layout: WeightLayout
    ) -> None:
        super().__init__(parameters, ranks)
        self.weights = list(weights)
        self.layout = layout

    def sum(self) -> None:
        """See Gradients."""
        sum_gradients([weight for weight in self.weights if not self.layout.is_spread(weight)], self.ranks)
        for index in range(len(self.weights)):
            self.sum_one(index)

    def sum_one(self, index: int) -> None:
        """See Gradients."""
        weight = self.weights[index]
        if weight.grad is not None:
            self.parameters[index].grad = self.layout.local(weight.grad)
            weight.grad = None

    def on_arrival(self, index: int, hook: Callable[[], None]) -> None:
        """See Gradients."""
        self.weights[index].register_post_accumulate_grad_hook(lambda _: hook())

    def norm_of_all(self, norm: Tensor) -> Tensor:
        """See Gradients."""
        square = norm.square()
        self.ranks.sum_tensors([square])
        return square.sqrt()
