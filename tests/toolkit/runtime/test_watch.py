"""The thread that looks after a run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from toolkit.errors import Interrupted
from toolkit.output.events import EventLog, read_events
from toolkit.runtime import watch
from toolkit.runtime.control import send
from toolkit.runtime.stop import StopRequest
from toolkit.runtime.watch import Watch


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with EventLog(tmp_path / "events.jsonl"):
        return tmp_path


def test_a_request_to_stop_ends_what_has_nothing_to_save_at_once(folder: Path) -> None:
    stop = StopRequest()
    started = time.monotonic()
    with stop.listen(), Watch(folder, stop, since_ns=time.time_ns()):
        send(folder, "stop")
        send(folder, "stop")
        with pytest.raises(Interrupted, match="while loading"), stop.ends_at_once("Stopped while loading."):
            time.sleep(60)
        _wait_for_events("control", folder)  # the second one must not end the run as a second signal would
    assert time.monotonic() - started < 50
    assert [event["command"] for event in read_events(folder / "events.jsonl")] == ["stop", "stop"]


def test_where_there_is_something_to_save_it_is_polled_for(folder: Path) -> None:
    stop = StopRequest()
    with stop.listen(), Watch(folder, stop, since_ns=time.time_ns()):
        send(folder, "stop")
        deadline = time.monotonic() + 30
        while not stop.requested and time.monotonic() < deadline:
            time.sleep(0.01)
    assert stop.requested


def test_the_loop_need_not_wait_for_the_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 60)
    stop = StopRequest()
    with Watch(folder, stop, since_ns=time.time_ns()):
        time.sleep(0.1)  # its first look
        send(folder, "sample")
        stop.commands.look()
        assert stop.commands.take("sample")
        stop_at_end = time.monotonic()
    assert time.monotonic() - stop_at_end < 30


def test_commands_for_an_earlier_run_are_not_obeyed(folder: Path) -> None:
    stop = StopRequest()
    send(folder, "stop")
    with Watch(folder, stop, since_ns=time.time_ns()):
        time.sleep(0.1)
    assert not stop.requested


def test_a_command_that_comes_while_the_job_is_checked_is_obeyed(folder: Path) -> None:
    stop, since_ns = StopRequest(), time.time_ns()
    send(folder, "stop")
    with Watch(folder, stop, since_ns=since_ns):
        time.sleep(0.1)
    assert stop.requested


def test_memory_is_noted_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MEMORY_EVERY_S", 0.02)
    with Watch(folder, StopRequest(), since_ns=time.time_ns()):
        _wait_for_events("memory", folder)
    first, second, *_ = (event for event in read_events(folder / "events.jsonl") if event["kind"] == "memory")
    assert first["ram_bytes"] > 1_000_000 and "gpu_bytes" in first and "gpu_reserved_bytes" in second


def _wait_for_events(kind: str, folder: Path) -> None:
    """Wait for two events of a kind, or for half a minute."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if sum(event["kind"] == kind for event in read_events(folder / "events.jsonl")) >= 2:
            return
        time.sleep(0.01)
