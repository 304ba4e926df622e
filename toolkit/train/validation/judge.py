"""What the rounds of a run show: which is best, which do not differ from it significantly, and whether it over-fits."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.train.validation.figures import Interval
from toolkit.train.validation.grid import Kind
from toolkit.train.validation.history import History, Round

_IN_A_ROW = 2


@dataclass(frozen=True)
class Best:
    """The round whose unseen images changed most for the better since the base model.

    Attributes:
        step: the step of the best round.
        figure: the change with its interval; below 0 is better.
        alike: steps of the other rounds that do not differ significantly from it.
    """

    step: int
    figure: Interval
    alike: tuple[int, ...] = ()


@dataclass(frozen=True)
class OverFit:
    """The training images have got better since the best round of the unseen images, and these have not.

    Attributes:
        since: the step at which the unseen images were best.
        worse: how much the error on unseen images has grown since then.
        opened: how much the gap to the training images has grown since then.
    """

    since: int
    worse: Interval
    opened: Interval


def best_of(history: History) -> Best | None:
    """The best round so far; None if nothing is scored that could tell."""
    kind = history.grid.unseen
    if kind is None or not history.rounds:
        return None
    best = _best(history, history.rounds)
    alike = [
        one.step
        for one in history.rounds
        if one is not best and not Interval.of(history.changes(kind, one, since=best)).has_sign
    ]
    return Best(best.step, Interval.of(history.changes(kind, best)), tuple(alike))


def rounds_without_gain(history: History) -> int:
    """How many rounds have passed since the best one."""
    if history.grid.unseen is None or not history.rounds:
        return 0
    return len(history.rounds) - 1 - history.rounds.index(_best(history, history.rounds))


def gap(history: History, scored: Round) -> Interval | None:
    """How much more the training images improved than the unseen ones; None if one of the two is not scored."""
    kind = history.grid.unseen
    if kind is None or "train" not in history.grid.kinds:
        return None
    return _difference(kind, history.changes(kind, scored), history.changes("train", scored))


def over_fit(history: History) -> OverFit | None:
    """Whether the run over-fits, by its last rounds.

    A gap alone is not a problem: training images always improve more. It is one if the gap has grown by more
    than its interval since the unseen images were best, in two rounds in a row.
    """
    found = [_opened(history, last) for last in range(len(history.rounds) - _IN_A_ROW, len(history.rounds))]
    return found[-1] if len(history.rounds) > _IN_A_ROW and None not in found else None


def _opened(history: History, last: int) -> OverFit | None:
    kind = history.grid.unseen
    if last < 1 or kind is None or "train" not in history.grid.kinds:
        return None
    scored, best = history.rounds[last], _best(history, history.rounds[: last + 1])
    unseen = history.changes(kind, scored, since=best)
    worse = Interval.of(unseen)
    opened = _difference(kind, unseen, history.changes("train", scored, since=best))
    return OverFit(best.step, worse, opened) if opened.is_above_0 else None


def _difference(kind: Kind, unseen: list[float], train: list[float]) -> Interval:
    """Mean(unseen) - mean(train); image by image where the unseen ones are mirrored copies of all the others."""
    if kind == "mirrored" and len(unseen) == len(train):
        return Interval.of([one - other for one, other in zip(unseen, train, strict=True)])
    return Interval.between(unseen, train)


def _best(history: History, rounds: list[Round]) -> Round:
    kind = history.grid.unseen
    assert kind is not None
    return min(rounds, key=lambda one: (Interval.of(history.changes(kind, one)).mean, one.step))
