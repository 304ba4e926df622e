"""toolkit.optimizers.trial: a class of the user's is relied on only if it learns and resumes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.optimizers.trial import try_class

HERE = __name__
CPU = torch.device("cpu")


class Good(torch.optim.Optimizer):
    """Momentum, and a count in its group."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "k": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["k"] += 1
            for weight in group["params"]:
                moment: Tensor = self.state[weight].setdefault("moment", [torch.zeros_like(weight)])[0]
                weight.sub_(moment.mul_(group["momentum"]).add_(weight.grad), alpha=group["lr"] / group["k"])


class Random(Good):
    """Draws numbers that a resumed run does not draw."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for weight in self.param_groups[0]["params"]:
            weight.mul_(1 + 1e-3 * torch.rand_like(weight))


class Wrong(Good):
    """Climbs."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for weight in self.param_groups[0]["params"]:
            weight.add_(weight.grad)


class Drifting(Good):
    """Its step depends on what it does not store."""

    count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        for weight in self.param_groups[0]["params"]:
            weight.sub_(weight.grad, alpha=0.1 / self.count)


def test_one_that_keeps_its_promises_is_accepted() -> None:
    try_class("torch.optim.SGD", lr=0.1, options={}, device=CPU)
    try_class(f"{HERE}.Good", lr=0.1, options={"momentum": 0.5}, device=CPU)


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        (f"{HERE}.Random", {}, "does not resume where it was"),
        (f"{HERE}.Drifting", {}, "does not resume where it was"),
        (f"{HERE}.Wrong", {}, "did not learn"),
        (f"{HERE}.Missing", {}, "cannot be imported"),
        (f"{HERE}.Good", {"moment": 1}, "does not accept these"),
        ("torch.optim.LBFGS", {}, "failed"),
    ],
)
def test_one_that_does_not_is_refused_with_the_reason(name: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        try_class(name, lr=0.1, options=options, device=CPU)


def test_a_trial_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    try_class("torch.optim.SGD", lr=0.1, options={}, device=CPU)
    assert torch.equal(torch.rand(1), expected)
