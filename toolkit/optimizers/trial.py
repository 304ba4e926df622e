"""A trial of an optimizer that is not in the table, before a run relies on it: does it learn, and does it resume?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.optimizers.optimizers import build_optimizer, set_learning_rate
from toolkit.optimizers.own_average import users_weights
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors

Build = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
NUM_STEPS = 8
SHAPES = ((4, 40), (48, 4), (48,))  # A, B and a bias, whose B begins at 0


class Trial:
    """A small regression.

    Args:
        build: makes the optimizer of some weights.
        lr: its learning rate.
        device: where it is trained: optimizers may work on some devices only.
    """

    def __init__(self, build: Build, lr: float, device: torch.device | None = None) -> None:
        draw = torch.Generator().manual_seed(0)
        self.build = build
        self.lr = lr
        x = torch.randn(32, SHAPES[0][1], generator=draw)
        self.x = x.to(device)
        self.y = (x @ torch.randn(SHAPES[0][1], SHAPES[1][0], generator=draw) / SHAPES[0][1] ** 0.5 + 1).to(device)
        self.first = (torch.randn(SHAPES[0], generator=draw) / SHAPES[0][1] ** 0.5).to(device)

    def weights(self) -> list[nn.Parameter]:
        """The weights of the start."""
        a, b, c = (nn.Parameter(torch.zeros(shape, device=self.x.device)) for shape in SHAPES)
        with torch.no_grad():
            a.copy_(self.first)
        return [a, b, c]

    def loss(self, weights: list[nn.Parameter]) -> Tensor:
        """The error of a product of two matrices, as in a LoRA."""
        a, b, c = weights
        return (self.x @ a.T @ b.T + c - self.y).square().mean()

    def steps(self, weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, count: int) -> None:
        """Take so many steps."""
        for _ in range(count):
            set_learning_rate(optimizer, self.lr)
            self.loss(weights).backward()
            optimizer.step()
            for weight in weights:
                weight.grad = None

    def learned(self, num_steps: int = NUM_STEPS) -> tuple[float, float]:
        """The loss before some steps, and after them with the weights that users get."""
        weights = self.weights()
        optimizer = self.build(weights)
        before = float(self.loss(weights).detach())
        self.steps(weights, optimizer, num_steps)
        with users_weights(optimizer):
            return before, float(self.loss(weights).detach())

    def resumes_after(self, num_steps: int, total: int = NUM_STEPS) -> bool:
        """Whether a run that is saved and resumed after some steps ends as one that is not, bit for bit."""
        whole = self.weights()
        self.steps(whole, self.build(whole), total)
        weights = self.weights()
        optimizer = self.build(weights)
        self.steps(weights, optimizer, num_steps)
        with users_weights(optimizer):
            pass  # as for samples and for the user's file
        saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
        resumed = [nn.Parameter(weight.detach().clone()) for weight in weights]
        again = self.build(resumed)
        load_optimizer_tensors(again, saved)
        torch.manual_seed(num_steps)  # nothing of a step may depend on torch's own generator
        self.steps(resumed, again, total - num_steps)
        return all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def try_class(name: str, *, lr: float, options: Mapping[str, Any], device: torch.device) -> None:
    """Make sure that a class of the user's can train on a device and be resumed.

    Raises:
        UserError: it cannot, with the reason.
    """
    trial = Trial(
        lambda weights: build_optimizer(name, weights, lr=lr, options=copy.deepcopy(dict(options))), lr, device
    )
    key = f"train.optimizer: {name} was tried on a small problem and"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            before, after = trial.learned()
            resumes = [trial.resumes_after(count) for count in (1, NUM_STEPS // 2)]
        except UserError:
            raise
        except Exception as error:  # whatever a class of another's may raise
            raise UserError(f"{key} failed ({type(error).__name__}: {error}).") from error
    if not after < before:
        raise UserError(f"{key} did not learn: the loss went from {before:.4g} to {after:.4g} at lr {lr:g}.")
    if not all(resumes):
        raise UserError(
            f"{key} does not resume where it was: a run that is stopped and started again would differ. Optimizers can "
            "keep their state in `state` and in `param_groups`, and may not draw from torch's own generator."
        )
