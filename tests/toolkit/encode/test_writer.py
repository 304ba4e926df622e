"""toolkit.encode.writer"""

from functools import partial

import pytest

from toolkit.encode.storage import MOST_AHEAD
from toolkit.encode.writer import Writer


def test_everything_is_written_in_order_once_it_has_settled() -> None:
    writer, written = Writer(), list[int]()
    for number in range(3 * MOST_AHEAD):
        writer.put(partial(written.append, number))
        assert len(written) >= number + 1 - MOST_AHEAD - 1, "few wait"
    writer.settle()
    assert written == list(range(3 * MOST_AHEAD))
    writer.put(partial(written.append, -1))
    writer.settle()
    assert written[-1] == -1, "it can go on"


def test_a_write_that_fails_is_told_at_the_latest_when_it_has_settled() -> None:
    def fail() -> None:
        raise OSError("full")

    writer = Writer()
    writer.put(fail)
    with pytest.raises(OSError, match="full"):
        writer.settle()
    writer.settle()
    with pytest.raises(OSError, match="full"):
        for _ in range(3 * MOST_AHEAD):
            writer.put(fail)
