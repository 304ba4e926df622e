"""toolkit.encode.ahead"""

import threading

import pytest

from toolkit.encode.ahead import Ahead
from toolkit.encode.storage import MOST_AHEAD
from toolkit.errors import UserError


def _items(count: int) -> list[tuple[str, int]]:
    return [(str(number), number) for number in range(count)]


def test_items_are_loaded_once_on_other_threads_and_few_wait() -> None:
    loaded: list[tuple[int, bool]] = []

    def load(number: int) -> int:
        loaded.append((number, threading.current_thread() is threading.main_thread()))
        return number * number

    ahead = Ahead(load)
    ahead.expect(_items(20))
    for number in range(20):
        assert ahead.take(str(number), number) == number * number
        assert len(loaded) <= number + 1 + MOST_AHEAD
    assert sorted(loaded) == [(number, False) for number in range(20)]
    for thread in threading.enumerate():
        if thread.name.startswith("ahead"):
            thread.join(timeout=10)
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate()), "none is left behind"


def test_what_loading_raises_comes_when_the_item_is_taken() -> None:
    def load(number: int) -> int:
        if number == 2:
            raise UserError("two")
        return number

    ahead = Ahead(load)
    ahead.expect(_items(4))
    assert [ahead.take(str(number), number) for number in range(2)] == [0, 1]
    with pytest.raises(UserError, match="two"):
        ahead.take("2", 2)
    assert ahead.take("3", 3) == 3


def test_what_nobody_expected_is_loaded_when_it_is_taken() -> None:
    ahead: Ahead[int, int] = Ahead(lambda number: -number)
    assert ahead.take("7", 7) == -7
    ahead.expect(_items(2))
    ahead.close()
    assert ahead.take("0", 0) == 0
