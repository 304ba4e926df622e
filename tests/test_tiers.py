"""The list of slow tests names what is there, and is written from what was measured."""

from __future__ import annotations

import pytest

from tests import tiers
from tests.measuring import listed, text_of
from tests.tiers import Taken

HERE = "test_tiers.py"
EVERY = (
    "test_every_slow_test_is_there",
    "test_a_test_is_slow_by_what_it_takes_or_starts",
    "test_what_was_measured_is_listed_and_the_rest_stays",
    "test_a_file_of_slow_tests_alone_is_listed_once",
    "test_a_listed_file_is_taken_apart_when_one_of_its_tests_has_become_quick",
    "test_a_file_that_is_slow_to_import_is_listed_whole",
    "test_a_list_is_read_as_it_was_written",
)


def test_every_slow_test_is_there() -> None:
    for name in tiers.slow():
        file, _, test = name.partition("::")
        text = (tiers.LIST.parent / file).read_text(encoding="utf-8")
        assert (test.partition("::")[0] or "test") in text, (
            f"{name} is gone: `make tiers`, or delete its line in slow.txt"
        )


@pytest.mark.parametrize(
    "taken, was, is_slow",
    [
        (Taken(0.1, 0.3), False, False),
        (Taken(0.3, 0.3), False, True),
        (Taken(0.1, 1.5), False, True),
        (Taken(0.0, 0.0, starts=True), False, True),
        (Taken(0.15, 0.3), True, True),
        (Taken(0.05, 0.3), True, False),
    ],
)
def test_a_test_is_slow_by_what_it_takes_or_starts(taken: Taken, was: bool, is_slow: bool) -> None:
    assert taken.is_slow(was) is is_slow


def test_what_was_measured_is_listed_and_the_rest_stays() -> None:
    before = {"test_run.py::test_a": 3.0, f"{HERE}::{EVERY[1]}": 2.0}
    taken = {f"{HERE}::{EVERY[0]}": Taken(4.0, 5.0), f"{HERE}::{EVERY[1]}": Taken(0.01, 0.01)}
    assert listed(before, taken, ()) == {"test_run.py::test_a": 3.0, f"{HERE}::{EVERY[0]}": 5.0}


def test_a_file_of_slow_tests_alone_is_listed_once() -> None:
    taken = {f"{HERE}::{test}": Taken(1.0, 1.5) for test in EVERY[1:]}
    assert listed({}, taken, [f"{HERE}::{EVERY[0]}"]) == {HERE: 1.5 * (len(EVERY) - 1)}


def test_a_listed_file_is_taken_apart_when_one_of_its_tests_has_become_quick() -> None:
    taken = {f"{HERE}::{test}": Taken(1.0, 1.5) for test in EVERY[1:]} | {f"{HERE}::{EVERY[0]}": Taken()}
    assert set(listed({HERE: 9.0}, taken, ())) == {f"{HERE}::{test}" for test in EVERY[1:]}


def test_a_file_that_is_slow_to_import_is_listed_whole() -> None:
    assert listed({}, {HERE: Taken(3.0, 3.0), f"{HERE}::{EVERY[0]}": Taken()}, ()) == {HERE: 3.0}


def test_a_list_is_read_as_it_was_written() -> None:
    slow = {"test_run.py": 12.0, "toolkit/test_files.py::test_a": 0.3}
    assert tiers.read(text_of(slow)) == slow
