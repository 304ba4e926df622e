from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from toolkit.errors import Interrupted
from toolkit.runtime.stop import StopRequest


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


def test_where_there_is_nothing_to_save_the_first_signal_ends_the_block() -> None:
    stop = StopRequest()
    with stop.listen(), pytest.raises(Interrupted, match="while loading"), stop.ends_at_once("Stopped while loading."):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")
    with pytest.raises(Interrupted, match="not begun"), stop.ends_at_once("Stopped, not begun."):
        pytest.fail("began")


def test_after_such_a_block_a_signal_is_a_request_again() -> None:
    stop = StopRequest()
    with stop.listen():
        with stop.ends_at_once("Stopped."):
            pass
        signal.raise_signal(signal.SIGINT)
        assert stop.requested


DEAF = """
import hashlib, sys
from toolkit.errors import Interrupted
from toolkit.runtime.stop import StopRequest
stop = StopRequest()
stop.grace_s = float(sys.argv[1])
with stop.listen():
    print("deaf", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # many minutes in one call of C
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
@pytest.mark.parametrize(
    ("signals", "grace_s"),
    [((signal.SIGINT, signal.SIGINT), 60), ((signal.SIGTERM, signal.SIGTERM), 60), ((signal.SIGTERM,), 0.5)],
    ids=["twice", "SIGTERM twice", "the end of the grace"],
)
def test_a_process_deep_in_a_library_ends_too(signals: tuple[signal.Signals, ...], grace_s: float) -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF, str(grace_s)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)  # two at once of a kind are one
        assert process.wait(timeout=60) == 130
    assert time.monotonic() - started < 30  # before the grace is over, or the library is done


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
def test_ctrl_c_may_take_as_long_as_it_needs() -> None:
    stop = StopRequest()
    stop.grace_s = 0.05
    with stop.listen():
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)
    assert stop.requested


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to a child")
def test_after_being_asked_by_a_thread_one_signal_is_the_second() -> None:
    stop = StopRequest()
    with stop.listen():
        thread = threading.Thread(target=stop.ask)
        thread.start()
        thread.join()
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
