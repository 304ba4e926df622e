"""The batch plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.data import BatchPlan, Example, count_batches
from toolkit.data.buckets import fit_to_bucket
from toolkit.data.examples import Reference
from toolkit.randomness import Draws

SIZES = [(64, 64)] * 7 + [(128, 32)] * 5 + [(32, 128)] * 1


@pytest.fixture
def examples(make_example: Callable[..., Example]) -> list[Example]:
    return [make_example(Path(f"{number}.png"), size) for number, size in enumerate(SIZES * 2)]


@pytest.fixture
def mixed(examples: list[Example]) -> list[Example]:
    """Every third of them is a regularisation image."""
    return [replace(example, is_reg=number % 3 == 0) for number, example in enumerate(examples)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 100])
def test_every_example_appears_once_in_every_epoch(examples: list[Example], batch_size: int) -> None:
    plan = BatchPlan(examples, batch_size, Draws(1))
    for epoch in range(3):
        batches = [plan.batch(epoch * plan.batches_per_epoch + place) for place in range(plan.batches_per_epoch)]
        assert Counter(index for batch in batches for index in batch) == Counter(range(len(examples)))


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_a_batch_has_one_size(examples: list[Example], batch_size: int) -> None:
    plan = BatchPlan(examples, batch_size, Draws(1))
    for number in range(3 * plan.batches_per_epoch):
        batch = [examples[index] for index in plan.batch(number)]
        assert len({example.bucket for example in batch}) == 1
        assert 1 <= len(batch) <= batch_size


@pytest.mark.parametrize("batches_per_step", [1, 2, 3])
def test_regularisation_images_have_every_second_step_however_many_they_are(
    mixed: list[Example], batches_per_step: int
) -> None:
    plan = BatchPlan(mixed, 2, Draws(1), batches_per_step=batches_per_step)
    for step in range(20):
        for part in range(batches_per_step):
            members = plan.batch(step * batches_per_step + part)
            assert {mixed[index].is_reg for index in members} == {step % 2 == 1}


def test_every_image_and_every_regularisation_image_comes_once_in_its_own_epoch(mixed: list[Example]) -> None:
    plan = BatchPlan(mixed, 2, Draws(1))
    regular = [index for index, example in enumerate(mixed) if example.is_reg]
    seen = Counter(index for number in range(2 * plan.batches_per_epoch) for index in plan.batch(number))
    assert all(seen[index] == 1 for index in range(len(mixed)) if index not in regular)
    num_batches = count_batches([mixed[index] for index in regular], 2)
    seen = Counter(index for turn in range(num_batches) for index in plan.batch(2 * turn + 1))
    assert seen == Counter(regular)


def test_regularisation_images_alone_are_trained_at_every_step(examples: list[Example]) -> None:
    alone = [replace(example, is_reg=True) for example in examples]
    plan = BatchPlan(alone, 2, Draws(1))
    assert Counter(i for n in range(plan.batches_per_epoch) for i in plan.batch(n)) == Counter(range(len(alone)))


def test_epochs_beside_regularisation_images_are_those_of_the_images(mixed: list[Example]) -> None:
    plan = BatchPlan(mixed, 1, Draws(1))
    assert plan.batches_per_epoch == 17
    assert [plan.epochs_done(steps) for steps in (0, 32, 33, 66, 67)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("steps", "epochs"), [(0, 0), (5, 0), (6, 1), (11, 1), (12, 2)])
def test_epochs_are_counted_in_images(make_example: Callable[..., Example], steps: int, epochs: int) -> None:
    examples = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    assert BatchPlan(examples, 1, Draws(1), batches_per_step=2).epochs_done(steps) == epochs


def test_a_bucket_smaller_than_a_batch_stays_a_short_batch(make_example: Callable[..., Example]) -> None:
    examples = [make_example(Path("a.png"), (64, 64))]
    assert BatchPlan(examples, 4, Draws(1)).batch(0) == (0,)


def test_a_batch_is_the_same_whenever_it_is_asked_for(examples: list[Example]) -> None:
    direct = BatchPlan(examples, 2, Draws(1)).batch(1000)
    plan = BatchPlan(examples, 2, Draws(1))
    for index in (0, 5, 999, 1001, 3):
        plan.batch(index)
    assert plan.batch(1000) == direct


def test_each_epoch_has_other_batches_in_another_order(examples: list[Example]) -> None:
    plan = BatchPlan(examples, 2, Draws(1))
    number = plan.batches_per_epoch
    first = [plan.batch(place) for place in range(number)]
    second = [plan.batch(number + place) for place in range(number)]
    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_another_seed_gives_another_order(examples: list[Example]) -> None:
    orders = {tuple(BatchPlan(examples, 1, Draws(seed)).batch(place) for place in range(26)) for seed in range(5)}
    assert len(orders) == 5


def test_the_batches_of_an_epoch_are_counted_per_bucket(examples: list[Example]) -> None:
    # Per kind, 26 examples in buckets of 64x64, 128x32 and 32x128, normal and regularisation apart.
    groups = Counter((example.bucket, example.is_reg) for example in examples)
    assert count_batches(examples, 4) == sum(-(-size // 4) for size in groups.values())
    assert count_batches(examples, 4) == BatchPlan(examples, 4, Draws(0)).batches_per_epoch
    assert count_batches([], 4) == 0


def test_references_of_other_sizes_or_another_number_make_another_batch(make_example: Callable[..., Example]) -> None:
    def reference(size: tuple[int, int]) -> Reference:
        fit = fit_to_bucket(*size, resolution=128, divisor=16)
        return Reference(Path("r.png"), "", fit, False, False, (0, 0, 0))

    wide, high = reference((96, 64)), reference((64, 96))
    kinds = [(), (wide,), (high,), (wide, high), (high, wide), (wide, wide)]
    examples = [make_example(Path(f"{n}.png"), (64, 64), references=kinds[n % len(kinds)]) for n in range(30)]
    examples += [make_example(Path("d.png"), (64, 64), references=(wide,), reference_dropout_rate=0.5)]
    plan = BatchPlan(examples, 3, Draws(1))
    seen: list[int] = []
    for place in range(plan.batches_per_epoch):
        members = plan.batch(place)
        seen += members
        assert len({(examples[index].layout, examples[index].reference_dropout_rate) for index in members}) == 1
    assert sorted(seen) == list(range(31))


def _of(examples: list[Example], numbers: list[int], dataset_index: int, **fields: object) -> list[Example]:
    return [replace(examples[n], dataset_index=dataset_index, **fields) for n in numbers]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({1: 0.25}, {0: 750, 1: 250}),
        ({0: 0.1, 1: 0.2}, {0: 333, 1: 667}),
        ({0: 2 / 3, 1: 1 / 3}, {0: 667, 1: 333}),
        ({0: 0.0, 1: 0.5}, {1: 1000}),
        ({}, {0: 834, 1: 166}),
    ],
)
def test_datasets_have_their_share_of_the_steps_however_many_images_they_have(
    make_example: Callable[..., Example], shares: dict[int, float], expected: dict[int, int]
) -> None:
    plain = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    mixed = _of(plain, list(range(10)), 0) + _of(plain, [10, 11], 1)
    plan = BatchPlan(mixed, 1, Draws(1), shares=shares)
    found = Counter(mixed[plan.batch(step)[0]].dataset_index for step in range(1000))
    assert all(abs(found[index] - count) <= 1 for index, count in expected.items()) and set(found) == set(expected)


def test_regularisation_images_beside_shares_have_half_of_what_is_left(make_example: Callable[..., Example]) -> None:
    plain = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    mixed = _of(plain, [0, 1, 2], 0) + _of(plain, [3], 1, is_reg=True) + _of(plain, [4, 5], 2)
    plan = BatchPlan(mixed, 1, Draws(1), shares={2: 0.2})
    found = Counter(mixed[plan.batch(step)[0]].dataset_index for step in range(1000))
    assert found == {0: 400, 1: 400, 2: 200}
    assert plan.epochs_done(1000) == 133


def test_regularisation_images_may_have_a_stated_share(make_example: Callable[..., Example]) -> None:
    plain = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    mixed = _of(plain, list(range(10)), 0) + _of(plain, [10], 1, is_reg=True)
    plan = BatchPlan(mixed, 1, Draws(1), shares={1: 0.1}, batches_per_step=2)
    found = [mixed[plan.batch(index)[0]].is_reg for index in range(2000)]
    assert sum(found) == 200 and all(found[2 * step] == found[2 * step + 1] for step in range(1000))


def test_every_stream_goes_through_its_images_in_turn(make_example: Callable[..., Example]) -> None:
    plain = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    mixed = _of(plain, list(range(7)), 0) + _of(plain, [7, 8, 9], 1) + _of(plain, [10, 11], 2)
    plan = BatchPlan(mixed, 1, Draws(1), shares={1: 0.3, 2: 0.5})
    seen = [plan.batch(step)[0] for step in range(1000)]
    for index, members in ((0, range(7)), (1, range(7, 10)), (2, range(10, 12))):
        own = [number for number in seen if mixed[number].dataset_index == index]
        size = len(members)
        for start in range(0, len(own) - size + 1, size):
            assert sorted(own[start : start + size]) == list(members)


def test_a_dataset_may_have_batches_of_another_size_and_another_strength(
    make_example: Callable[..., Example],
) -> None:
    plain = [make_example(Path(f"{number}.png"), (64, 64)) for number in range(12)]
    mixed = _of(plain, list(range(6)), 0, batch_size=3) + _of(plain, list(range(6, 12)), 1, network_weight=0.5)
    plan = BatchPlan(mixed, 2, Draws(1))
    batches = [[mixed[n] for n in plan.batch(step)] for step in range(plan.batches_per_epoch)]
    assert sorted((batch[0].dataset_index, len(batch)) for batch in batches) == [(0, 3)] * 2 + [(1, 2)] * 3
    assert all(len({(one.dataset_index, one.network_weight) for one in batch}) == 1 for batch in batches)
    assert count_batches(mixed, 2) == 5
