from __future__ import annotations

import math

import pytest

from toolkit.train.validation.figures import Interval, student_t


def test_the_interval_of_a_few_values_is_students() -> None:
    found = Interval.of([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.half == pytest.approx(3.182 * math.sqrt(5 / 3) / 2, rel=1e-3)
    assert found.has_sign
    assert found.is_above_0


def test_a_single_value_says_nothing_of_its_interval() -> None:
    assert Interval.of([0.3]) == Interval(0.3, None, 1)
    assert not Interval.of([0.3]).has_sign


def test_two_groups_are_compared_by_their_own_spreads() -> None:
    found = Interval.between([0.0, 0.2, 0.1, 0.1], [-1.0, -1.2, -1.1, -1.1])
    assert found.mean == pytest.approx(1.2)
    assert found.half == pytest.approx(2.447 * math.sqrt(2 * (0.02 / 3) / 4), rel=1e-3)
    assert Interval.between([1.0, 1.0], [0.0, 0.0]) == Interval(1.0, 0.0, 2)
    assert Interval.between([1.0], [0.0, 0.0]).half is None


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (30, 2.042), (31, 2.0395), (60, 2.0003), (120, 1.9799)])
def test_students_t_is_that_of_tables(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=5e-4)


def test_a_change_of_logarithms_is_said_in_percent() -> None:
    assert Interval(math.log(0.9), 0.05, 8).as_ratio() == "-10.0 % (-14.4 to -5.4)"
    assert Interval(0.0, None, 1).as_ratio() == "+0.0 %"
    assert Interval(math.inf, math.nan, 2).as_json() == {"mean": None, "half": None, "num": 2}
