from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.counts import Operators
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.optimizers.optimizers import build_optimizer, in_groups
from toolkit.optimizers.stored.state import load_optimizer_tensors, optimizer_tensors
from toolkit.optimizers.weight_update import WeightUpdate, build_update
from toolkit.randomness import Draws

FLAT = [name for name, row in OPTIMIZERS.items() if row.is_elementwise]
LR, RANK = 1e-2, 3


class Layers:
    """The LoRAs of some layers, half of which learn at another rate, with gradients that are drawn."""

    def __init__(self, kind: str, *, is_flat: bool, num_layers: int = 4, max_norm: float = 0.0) -> None:
        draw = torch.Generator().manual_seed(0)
        self.weights = {
            f"{layer}.{name}": nn.Parameter(torch.randn(shape, generator=draw))
            for layer in range(num_layers)
            for name, shape in (("A", (RANK, 7 + layer)), ("B", (11, RANK)))
        }
        rates = {name: 4.0 for name in self.weights if name.endswith("B")}
        self.optimizer = build_optimizer(kind, in_groups(list(self.weights.items()), rates), lr=LR, options={})
        self.update: WeightUpdate = build_update(
            self.optimizer,
            list(self.weights.values()),
            max_norm=max_norm,
            weights="fp32",
            fused=False,
            draws=Draws(0),
            is_elementwise=is_flat,
        )

    def step(self, number: int, *, without: str = "") -> Tensor:
        draw = torch.Generator().manual_seed(number)
        for name, weight in self.weights.items():
            gradient = torch.randn(weight.shape, generator=draw)
            weight.grad = None if name == without else gradient
        self.update.begin(number, lr=LR)
        return self.update.finish(number)

    def values(self) -> dict[str, Tensor]:
        own = {name: weight.detach() for name, weight in self.weights.items()}
        return {**own, **optimizer_tensors(self.optimizer)}


def must_be_equal(one: Layers, other: Layers) -> None:
    found, wanted = one.values(), other.values()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("kind", FLAT)
def test_joined_weights_and_their_state_are_those_of_single_ones_bit_for_bit(kind: str) -> None:
    flat, single = (Layers(kind, is_flat=is_flat) for is_flat in (True, False))
    for number in range(4):
        assert torch.allclose(flat.step(number), single.step(number), rtol=1e-6)
    must_be_equal(flat, single)


@pytest.mark.parametrize("kind", FLAT)
def test_the_step_of_more_layers_takes_as_many_operators(kind: str) -> None:
    counts = []
    for num_layers in (2, 16):
        layers = Layers(kind, is_flat=True, num_layers=num_layers, max_norm=1.0)
        layers.step(0)
        with Operators() as seen:
            layers.step(1)
        counts.append(seen.total - seen.counts["aten::randn"])  # the gradients
    assert counts[0] == counts[1] < 60


@pytest.mark.parametrize("kind", FLAT)
def test_a_weight_without_gradient_stays_as_it_is(kind: str) -> None:
    flat, single = (Layers(kind, is_flat=is_flat) for is_flat in (True, False))
    for number in range(6):
        without = "1.A" if number in (0, 3) else "2.B" if number == 4 else ""
        flat.step(number, without=without)
        single.step(number, without=without)
    must_be_equal(flat, single)


@pytest.mark.parametrize("kind", FLAT)
def test_a_state_that_was_saved_is_gone_on_with(kind: str) -> None:
    whole, first, second = (Layers(kind, is_flat=True) for _ in range(3))
    for number in range(3):
        whole.step(number)
        first.step(number)
    saved = {key: value.clone() for key, value in optimizer_tensors(first.optimizer).items()}
    second.step(7)  # has a state of its own already
    with torch.no_grad():
        for name, weight in second.weights.items():
            weight.copy_(first.weights[name])
    load_optimizer_tensors(second.optimizer, saved)
    whole.step(3)
    second.step(3)
    must_be_equal(second, whole)


def test_a_weight_that_is_given_other_memory_is_still_updated() -> None:
    flat, single = (Layers("adamw", is_flat=is_flat) for is_flat in (True, False))
    for number in range(3):
        flat.weights["0.A"].data = flat.weights["0.A"].data.clone()
        flat.step(number)
        single.step(number)
    must_be_equal(flat, single)
