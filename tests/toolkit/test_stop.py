from __future__ import annotations

import signal

import pytest

from toolkit.stop import StopRequest


def test_nothing_is_requested_at_first() -> None:
    assert not StopRequest().requested


def test_the_first_signal_is_a_request_and_the_second_an_interrupt() -> None:
    stop = StopRequest()
    with stop.listen():
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_from_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest().listen():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
