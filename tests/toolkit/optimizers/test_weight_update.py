from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.toolkit.parallel.fake_ranks import run_ranks
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.gradients import Gradients
from toolkit.optimizers.optimizers import build_optimizer
from toolkit.optimizers.rounding import join
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors
from toolkit.optimizers.weight_update import REST, WeightUpdate, build_update
from toolkit.parallel.ranks import OneProcess, Ranks
from toolkit.randomness import Draws

WEIGHTS = ("fp32", "bf16_stochastic", "bf16_split")
LR = 1e-4


class Toy:
    """A small network that is fine-tuned: its changes are far below bf16's steps."""

    def __init__(self, weights: str, *, optimizer: str = "adamw", fused: bool = False, max_norm: float = 0.0) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 8))
        draw = torch.Generator().manual_seed(1)
        self.x = torch.randn(64, 32, generator=draw)
        self.y = torch.randn(64, 8, generator=draw)
        start = [parameter.detach().bfloat16() for parameter in self.net.parameters()]
        self.net.to(torch.float32 if weights == "fp32" else torch.bfloat16)
        with torch.no_grad():
            for parameter, value in zip(self.net.parameters(), start, strict=True):
                parameter.copy_(value)
        self.parameters = list(self.net.parameters())
        self.optimizer = build_optimizer(optimizer, self.parameters, lr=LR, options={"weight_decay": 0.0})
        self.update: WeightUpdate = build_update(
            self.optimizer, self.parameters, max_norm=max_norm, weights=weights, fused=fused, draws=Draws(0)
        )

    def loss(self) -> Tensor:
        dtype = self.parameters[0].dtype
        return (self.net(self.x.to(dtype)).float() - self.y).square().mean()

    def steps(self, first: int, last: int) -> list[Tensor]:
        norms = []
        for step in range(first, last):
            self.update.begin(step, lr=LR)
            self.loss().backward()
            norms.append(self.update.finish(step))
        return norms

    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters])


@pytest.mark.parametrize("weights", ["bf16_stochastic", "bf16_split"])
def test_bf16_weights_learn_what_fp32_weights_learn(weights: str) -> None:
    start, exact, ours, nearest = Toy("fp32"), Toy("fp32"), Toy(weights), Toy("bf16_split")
    for step in range(60):
        exact.steps(step, step + 1)
        ours.steps(step, step + 1)
        nearest.loss().backward()  # bf16 in an optimizer that knows nothing of it
        nearest.optimizer.step()
        nearest.optimizer.zero_grad()
    learned = start.loss() - exact.loss()
    assert abs(ours.loss() - exact.loss()) < 0.02 * learned
    change = exact.weights() - start.weights()

    def share(toy: Toy) -> float:
        """How much of the exact change the weights made."""
        return float((toy.weights().float() - start.weights()) @ change / change.square().sum())

    assert 0.97 < share(ours) < 1.03
    assert share(nearest) < 0.9


def test_split_weights_follow_fp32_weights_bit_for_bit() -> None:
    """Given the same gradients: with its rest, a weight is an fp32 weight."""
    exact, ours = Toy("fp32"), Toy("bf16_split")
    for step in range(5):
        exact.update.begin(step, lr=LR)
        exact.loss().backward()
        for mine, theirs in zip(ours.parameters, exact.parameters, strict=True):
            assert theirs.grad is not None
            theirs.grad = theirs.grad.bfloat16().float()
            mine.grad = theirs.grad.bfloat16()
        exact.update.finish(step)
        ours.update.finish(step)
    state = ours.optimizer.state
    for mine, theirs in zip(ours.parameters, exact.parameters, strict=True):
        assert torch.equal(join(mine.detach(), state[mine][REST]), theirs)


@pytest.mark.parametrize("optimizer", [kind for kind, row in OPTIMIZERS.items() if row.is_single and not row.notice])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_updates_during_backward_equal_updates_after_it_bit_for_bit(weights: str, optimizer: str) -> None:
    after, during = Toy(weights, optimizer=optimizer), Toy(weights, optimizer=optimizer, fused=True)
    norms, others = after.steps(0, 4), during.steps(0, 4)
    assert torch.equal(after.weights(), during.weights())
    assert torch.allclose(torch.stack(norms), torch.stack(others), rtol=1e-2)


def test_during_backward_one_gradient_is_held_at_a_time() -> None:
    def most(toy: Toy) -> int:
        held: list[int] = []
        for parameter in toy.parameters:
            parameter.register_post_accumulate_grad_hook(
                lambda _: held.append(sum(other.grad is not None for other in toy.parameters))
            )
        toy.steps(0, 1)
        return max(held)

    assert most(Toy("fp32")) == 4
    toy = Toy("fp32", fused=True)
    toy.steps(0, 1)  # its own hooks come first
    assert most(toy) == 0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_resumed_run_rounds_as_the_first_would_have(weights: str, fused: bool) -> None:
    whole, first, second = (Toy(weights, fused=fused, optimizer="adamw8bit") for _ in range(3))
    whole.steps(0, 6)
    first.steps(0, 3)
    with torch.no_grad():
        for mine, theirs in zip(second.parameters, first.parameters, strict=True):
            mine.copy_(theirs)
    load_optimizer_tensors(second.optimizer, optimizer_tensors(first.optimizer))
    second.steps(3, 6)
    assert torch.equal(second.weights(), whole.weights())


@pytest.mark.parametrize("weights", WEIGHTS)
def test_long_gradients_are_shortened_before_any_weight_changes(weights: str) -> None:
    toy = Toy(weights, max_norm=1e-3)
    lengths: list[Tensor] = []
    toy.optimizer.register_step_pre_hook(
        lambda optimizer, *_: lengths.extend(p.grad.norm() for p in optimizer.param_groups[0]["params"])
    )
    toy.steps(0, 1)
    assert len(lengths) == 4
    assert torch.stack(lengths).square().sum().sqrt() < 1.01e-3


# For each step, whether the second layer takes part in the first and in the second batch.
TAKING_PART = ((True, False), (False, True), (False, False), (True, True), (False, False))


def _trained_in_part(ranks: Ranks, batches: tuple[int, ...], *, weights: str) -> list[Tensor]:
    """Weights after steps in which one layer takes part in some batches only; of those, a rank sees `batches`."""
    toy_draw = torch.Generator().manual_seed(0)
    always, sometimes = (nn.Parameter(torch.randn(4, 4, generator=toy_draw)) for _ in range(2))
    if weights != "fp32":
        always, sometimes = (nn.Parameter(one.detach().bfloat16()) for one in (always, sometimes))
    parameters = [always, sometimes]
    optimizer = build_optimizer("adamw", parameters, lr=0.1, options={"weight_decay": 0.1})
    update = build_update(
        optimizer,
        parameters,
        max_norm=1.0,
        weights=weights,
        fused=False,
        draws=Draws(0),
        gradients=Gradients(parameters, ranks),
    )
    x = torch.randn(2, 3, 4, generator=toy_draw).to(always.dtype)
    for step, takes_part in enumerate(TAKING_PART):
        update.begin(step, lr=0.1)
        for batch in batches:
            (x[batch] @ (always + sometimes if takes_part[batch] else always)).tanh().sum().backward()
        update.finish(step)
    return [parameter.detach().float() for parameter in parameters]


@pytest.mark.parametrize("weights", ["fp32", "bf16_split"])
def test_a_weight_without_a_gradient_on_one_rank_only_counts_as_zero_there(weights: str) -> None:
    expected = _trained_in_part(OneProcess(), (0, 1), weights=weights)
    for found in run_ranks(2, lambda ranks: _trained_in_part(ranks, (ranks.rank,), weights=weights)):
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5 if weights == "fp32" else 1e-2)
