"""Counted randomness."""

from __future__ import annotations

import itertools

import torch

from toolkit.randomness import Draws


def test_a_draw_depends_on_nothing_but_seed_purpose_and_counters() -> None:
    first = Draws(7).normal((4,), "noise", 3, 0)
    torch.manual_seed(1)
    Draws(7).normal((4,), "noise", 4, 0)
    assert torch.equal(first, Draws(7).normal((4,), "noise", 3, 0))


def test_draws_leave_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    Draws(7).normal((4,), "noise", 0)
    Draws(7).uniform((4,), "noise", 0)
    assert torch.equal(state, torch.get_rng_state())


def test_seed_purpose_and_each_counter_change_the_draw() -> None:
    numbers = [
        Draws(seed).number(purpose, *counters)
        for seed, purpose, counters in itertools.product((1, 2), ("noise", "order"), ((), (1,), (1, 1), (11,), (2,)))
    ]
    assert len(set(numbers)) == len(numbers)


def test_numbers_fit_a_torch_seed() -> None:
    assert all(0 <= Draws(seed).number("noise") < 2**63 for seed in range(200))


def test_a_known_draw_stays_what_it_was() -> None:
    # Changes here break the resuming of runs that older versions began.
    assert Draws(42).number("noise", 1, 0) == 819406935498838473
    assert Draws(42).python("order", 0).sample(range(10), 4) == [0, 1, 4, 9]


def test_normal_draws_are_normal_and_uniform_draws_even() -> None:
    normal = Draws(0).normal((100_000,), "noise", 0)
    uniform = Draws(0).uniform((100_000,), "noise", 0)
    assert normal.dtype == uniform.dtype == torch.float32
    assert abs(float(normal.mean())) < 0.02 and abs(float(normal.std()) - 1) < 0.02
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1 and abs(float(uniform.mean()) - 0.5) < 0.01
