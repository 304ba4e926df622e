"""toolkit.runtime.prefetch"""

import threading

import pytest

from toolkit.errors import UserError
from toolkit.runtime.prefetch import Prefetch


def test_the_next_is_made_on_another_thread_and_everything_once() -> None:
    made, prepared = list[int](), list[str]()

    def make(number: int) -> int:
        made.append(number)
        return number * number

    with Prefetch(make, num_steps=5, prepare=lambda: prepared.append(threading.current_thread().name)) as ahead:
        assert [ahead.get(number) for number in (1, 2, 3, 4)] == [1, 4, 9, 16]
    assert made == [1, 2, 3, 4] and len(prepared) == 1
    assert prepared[0] != threading.main_thread().name


def test_a_number_that_does_not_follow_is_made_when_it_is_asked_for() -> None:
    with Prefetch(lambda number: -number, num_steps=100) as ahead:
        assert [ahead.get(number) for number in (5, 50, 7, 99)] == [-5, -50, -7, -99]


def test_what_making_raises_comes_when_its_turn_does() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise UserError("the entry of step 2 is gone")
        return number

    with Prefetch(make, num_steps=9) as ahead:
        assert [ahead.get(number) for number in (0, 1)] == [0, 1]
        with pytest.raises(UserError, match="step 2"):
            ahead.get(2)
