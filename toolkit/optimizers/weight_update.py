"""How gradients update the weights: all at once, one weight after another, or during the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.optimizers.flat_weights import FlatWeights
from toolkit.optimizers.gradients import Gradients, drop_if_broken
from toolkit.optimizers.optimizers import set_learning_rate
from toolkit.optimizers.rounding import join, round_stochastically, split
from toolkit.parallel.ranks import OneProcess
from toolkit.parallel.weight_layout import Piece
from toolkit.randomness import Draws

REST = "weight_rest"  # the lower half of a split weight, part of the optimizer state so that it is saved with it


class WeightUpdate(Protocol):
    """An update of all trained weights.

    Attributes:
        waits: whether no weight changes before the backward pass has ended.
    """

    waits: bool

    def begin(self, step: int, *, lr: float) -> None:
        """Prepare for the backward pass.

        Args:
            step: number of updates done so far.
            lr: learning rate of this update.
        """
        ...

    def finish(self, step: int) -> Tensor:
        """Change the weights after the backward pass, and free the gradients.

        A gradient that is not finite counts as zero.

        Returns:
            Norm of the whole gradient before clipping, a scalar.
        """
        ...


def build_update(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    *,
    max_norm: float,
    weights: str,
    fused: bool,
    draws: Draws,
    gradients: Gradients | None = None,
    pieces: Sequence[Piece] | None = None,
    is_elementwise: bool = False,
) -> WeightUpdate:
    """Create the weight update of a job.

    Args:
        optimizer: optimizer of `parameters`, whose weights can be updated one after another unless all are fp32.
        parameters: the weights to train.
        max_norm: gradients are clipped to this norm; 0 for no clipping.
        weights: how weights are stored, the job's `train.full_finetune_weights`.
        fused: whether to update during the backward pass, the job's `train.fused_backward_pass`.
        draws: the job's random draws.
        gradients: the gradients of `parameters`, from all processes; None for a single process.
        pieces: the part of each weight that `parameters` hold; None if they hold all of it.
        is_elementwise: see `OptimizerChoice`.
    """
    gradients = gradients or Gradients(parameters, OneProcess())
    if weights == "fp32" and not fused:
        flat = FlatWeights(optimizer) if is_elementwise and pieces is None else None
        return AllAtOnce(optimizer, parameters, max_norm=max_norm, gradients=gradients, flat=flat)
    steps = SingleSteps(optimizer, parameters, is_stochastic=weights == "bf16_stochastic", draws=draws, pieces=pieces)
    return DuringBackward(steps, gradients) if fused else OneByOne(steps, gradients, max_norm=max_norm)


class AllAtOnce:
    """Updates all weights in one optimizer step, joined to long tensors where `flat` says how."""

    waits = True

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        *,
        max_norm: float,
        gradients: Gradients,
        flat: FlatWeights | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.parameters = list(parameters)
        self.max_norm = max_norm
        self.gradients = gradients
        self.flat = flat

    def begin(self, step: int, *, lr: float) -> None:
        """See WeightUpdate."""
        set_learning_rate(self.optimizer, lr)

    def finish(self, step: int) -> Tensor:
        """See WeightUpdate."""
        self.gradients.sum()
        with self.flat.joined() if self.flat else nullcontext(self.parameters) as parameters:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            grad_norm = self.gradients.norm_of_all(nn.utils.get_total_norm(gradients).detach())
            if self.max_norm:
                nn.utils.clip_grads_with_norm_(parameters, self.max_norm, grad_norm)
            drop_if_broken(gradients, grad_norm)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return grad_norm


class SingleSteps:
    """Steps an optimizer for one weight at a time; bf16 weights are updated in fp32 and then rounded."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        *,
        is_stochastic: bool,
        draws: Draws,
        pieces: Sequence[Piece] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.parameters = list(parameters)
        self.is_stochastic = is_stochastic
        self.draws = draws
        self.pieces = pieces
        groups = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
        self._groups = [groups[id(parameter)] for parameter in self.parameters]

    @torch.no_grad()
    def take(self, index: int, step: int) -> None:
        """Update weight `index` from its gradient and free the gradient; `step` counts the updates done so far."""
        parameter = self.parameters[index]
        if parameter.dtype == torch.bfloat16:
            self._take_bf16(parameter, index, step)
        else:
            self._step_only(parameter, index)
        parameter.grad = None

    def _take_bf16(self, parameter: nn.Parameter, index: int, step: int) -> None:
        """Step an fp32 copy of the weight with the weight's optimizer state, then round it into the weight."""
        assert parameter.grad is not None
        state = self.optimizer.state.pop(parameter, {})
        rest = state.pop(REST, None)
        exact = parameter.float() if rest is None else join(parameter.detach(), rest)
        exact.grad = parameter.grad.float()
        self.optimizer.state[exact] = state
        self._step_only(exact, index)
        state = self.optimizer.state[parameter] = self.optimizer.state.pop(exact)
        if self.is_stochastic:
            seed = self.draws.number("rounding", step, index)
            generator = torch.Generator(parameter.device).manual_seed(seed)
            rounded = round_stochastically(exact, generator, self.pieces[index] if self.pieces else None)
        else:
            rounded, state[REST] = split(exact)
        parameter.copy_(rounded)

    def _step_only(self, weight: Tensor, index: int) -> None:
        group, groups = self._groups[index], self.optimizer.param_groups
        everything, group["params"] = group["params"], [weight]
        self.optimizer.param_groups = [group]
        try:
            self.optimizer.step()
        finally:
            group["params"], self.optimizer.param_groups = everything, groups


class OneByOne:
    """Updates one weight after another after the backward pass, with only one of them in fp32 at a time."""

    waits = True

    def __init__(self, steps: SingleSteps, gradients: Gradients, *, max_norm: float) -> None:
        self.steps = steps
        self.max_norm = max_norm
        self.gradients = gradients

    def begin(self, step: int, *, lr: float) -> None:
        """See WeightUpdate."""
        set_learning_rate(self.steps.optimizer, lr)

    def finish(self, step: int) -> Tensor:
        """See WeightUpdate."""
        self.gradients.sum()
        parameters = [parameter for parameter in self.steps.parameters if parameter.grad is not None]
        # In fp32: a norm in bf16 would have only two correct digits.
        grad_norm = self.gradients.norm_of_all(_length([_squared_length(parameter) for parameter in parameters]))
        nn.utils.clip_grads_with_norm_(parameters, self.max_norm or float("inf"), grad_norm)
        drop_if_broken([parameter.grad for parameter in parameters if parameter.grad is not None], grad_norm)
        for index, parameter in enumerate(self.steps.parameters):
            if parameter.grad is not None:
                self.steps.take(index, step)
        return grad_norm


class DuringBackward:
    """Updates each weight as soon as backward has computed its gradient, so that about one gradient at a time exists.

    The norm of the whole gradient is known only after all weights have changed: it is reported but cannot clip. Whether
    a gradient is finite is asked weight by weight.
    """

    waits = False

    def __init__(self, steps: SingleSteps, gradients: Gradients) -> None:
        self.steps = steps
        self.gradients = gradients
        self._step = 0
        self._squares: list[Tensor] = []
        self._is_attached = False

    def begin(self, step: int, *, lr: float) -> None:
        """See WeightUpdate; hooks into the backward pass the first time."""
        set_learning_rate(self.steps.optimizer, lr)
        if not self._is_attached:
            for index in range(len(self.steps.parameters)):
                self.gradients.on_arrival(index, partial(self._take, index))
            self._is_attached = True
        self._step = step
        self._squares.clear()

    def finish(self, step: int) -> Tensor:
        """See WeightUpdate."""
        return self.gradients.norm_of_all(_length(self._squares))

    def _take(self, index: int) -> None:
        self.gradients.sum_one(index)
        parameter = self.steps.parameters[index]
        self._squares.append(_squared_length(parameter))
        assert parameter.grad is not None
        drop_if_broken([parameter.grad], self._squares[-1])
        self.steps.take(index, self._step)


def _length(squares: Sequence[Tensor]) -> Tensor:
    """The root of a sum, of which a model on several cards has parts on each."""
    return torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt()


def _squared_length(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return torch.linalg.vector_norm(parameter.grad, dtype=torch.float32).square()
