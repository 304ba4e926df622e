"""What is concluded from rounds whose scores are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.toolkit.train.validation.test_rounds import EXAMPLE
from toolkit.train.validation.grid import Grid, Kind, Subject
from toolkit.train.validation.history import History
from toolkit.train.validation.judge import best_of, gap, over_fit, rounds_without_gain

SPREAD = (0.02, -0.01, 0.0, -0.01)  # of images and bands, around their mean


def _history(unseen: Sequence[float], train: Sequence[float], *, kind: Kind = "held_out") -> History:
    """Rounds in which the error of both kinds has become so many times that of the base model."""
    subjects = [Subject(one, replace(EXAMPLE, content_hash=f"{one}{n}"), "") for one in (kind, "train") for n in (1, 2)]
    history = History(Grid(tuple(subjects), (0.8, 0.2), together=1, every=10), base=[[1.0, 1.0]] * 4)
    for number, errors in enumerate(zip(unseen, train, strict=True)):
        rows = [
            [error * (1 + SPREAD[2 * image]), error * (1 + SPREAD[2 * image + 1])]
            for error in errors
            for image in (0, 1)
        ]
        history.add(10 * number, rows if number else [[1.0, 1.0]] * 4)
    return history


def test_the_best_round_is_the_one_with_the_least_error_on_images_that_are_not_trained_on() -> None:
    history = _history([1.0, 0.8, 0.5, 0.9], [1.0, 0.7, 0.4, 0.1])
    best = best_of(history)
    assert best is not None
    assert best.step == 20
    assert best.figure.mean == pytest.approx(-0.69, abs=0.01)
    assert rounds_without_gain(history) == 1


def test_rounds_that_cannot_be_told_apart_are_named() -> None:
    history = _history([1.0, 0.7], [1.0, 0.7])
    wobble = [
        [score * factor for score, factor in zip(row, (1.03, 0.98), strict=True)] for row in history.rounds[1].scores
    ]
    history.add(20, wobble)
    best = best_of(history)
    assert best is not None
    assert {best.step, *best.alike} == {10, 20}  # and not 0, which is far away


def test_a_gap_that_opens_after_the_best_round_is_over_fitting() -> None:
    found = over_fit(_history([1.0, 0.6, 0.7, 0.75], [1.0, 0.5, 0.3, 0.2]))
    assert found is not None
    assert found.since == 10
    assert found.opened.is_above_0
    assert found.worse.mean > 0


@pytest.mark.parametrize(
    ("unseen", "train"),
    [
        ([1.0, 0.8, 0.7, 0.65], [1.0, 0.5, 0.3, 0.2]),  # a gap, while the others still get better
        ([1.0, 0.6, 0.65, 0.55], [1.0, 0.5, 0.3, 0.2]),  # one bad round
        ([1.0, 0.6, 0.7, 0.75], [1.0, 0.5, 0.59, 0.63]),  # all get worse alike: no over-fitting
        ([1.0, 0.6], [1.0, 0.1]),  # too few rounds to say
    ],
)
def test_nothing_else_is_over_fitting(unseen: list[float], train: list[float]) -> None:
    assert over_fit(_history(unseen, train)) is None


def test_mirrored_copies_are_compared_image_by_image() -> None:
    history = _history([1.0, 0.8], [1.0, 0.6], kind="mirrored")
    apart = gap(_history([1.0, 0.8], [1.0, 0.6]), history.rounds[1])
    paired = gap(history, history.rounds[1])
    assert apart is not None
    assert paired is not None
    assert paired.mean == pytest.approx(apart.mean)
    assert (paired.half or 0.0) < (apart.half or 0.0) / 10


def test_a_history_is_read_as_it_was_written() -> None:
    history = _history([1.0, 0.123456789], [1.0, 0.1])
    assert history.figures(history.rounds[1])["train"]["num"] == 4
    assert list(history.figures(history.rounds[1])["train"]["bands"]) == ["0-0.25", "0.75-1"]
