"""The event log of a job."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.events import EventLog, read_events


def test_events_come_back_in_order_with_their_fields(tmp_path: Path) -> None:
    path = tmp_path / "job" / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", step=1, loss=0.5)
        log.write("sample", path=tmp_path / "grün.jpg")
    first, second = read_events(path)
    assert (first["kind"], first["step"], first["loss"]) == ("step", 1, 0.5)
    assert second["path"] == str(tmp_path / "grün.jpg")
    assert second["time"] >= first["time"] > 0


def test_a_reader_sees_each_event_while_the_log_is_open(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("step", step=1)
        assert [event["step"] for event in read_events(log.path)] == [1]


def test_a_second_run_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        with EventLog(tmp_path / "events.jsonl") as log:
            log.write("step", step=step)
    assert [event["step"] for event in read_events(tmp_path / "events.jsonl")] == [1, 2]


def test_a_line_cut_by_a_crash_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", step=1)
        log.write("step", step=2)
    path.write_bytes(path.read_bytes()[:-9])
    with EventLog(path) as log:
        log.write("step", step=3)
    assert [event["step"] for event in read_events(path)] == [1, 3]


def test_every_line_is_strict_json_even_with_a_loss_that_is_not_a_number(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("step", step=1, loss=float("nan"), grad_norm=float("inf"))
    event = json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=refuse)
    assert event["loss"] is None and event["grad_norm"] is None


def test_a_file_name_that_is_not_utf8_can_be_logged(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("warning", file=name)
    assert [event["file"] for event in read_events(tmp_path / "events.jsonl")] == [name]
