"""The event log of a job."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import get_args

import pytest

from toolkit.output.events import EventKind, EventLog, append_event, newest_events, read_events


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


def _write_steps(path: Path, steps: range, *, file_bytes: int = 2_000, older_bytes: int = 16_000) -> None:
    with EventLog(path, file_bytes=file_bytes, older_bytes=older_bytes) as log:
        for step in steps:
            log.write("step", step=step, loss=0.5)


def test_a_full_log_continues_in_a_new_file_and_every_event_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write_steps(path, range(150))
    _write_steps(path, range(150, 200))
    assert {"events.1.jsonl", "events.2.jsonl"} < {file.name for file in tmp_path.iterdir()}
    assert [event["step"] for event in read_events(path)] == list(range(200))


def test_a_log_takes_no_more_room_than_it_may_and_keeps_the_whole_course(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, file_bytes=2_000, older_bytes=16_000) as log:
        for step in range(2_500):
            log.write("step", step=step, loss=0.5)
            if step % 500 == 0:
                log.write("checkpoint", step=step)
            if step % 100 == 0:
                assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2_000 + 16_000 + 2_000
    events = list(read_events(path))
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps == sorted(set(steps))
    assert steps[0] == 0 and steps[-1] == 2_499
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 256, "old steps are thinned out, not cut off"
    assert [event["step"] for event in events if event["kind"] == "checkpoint"] == list(range(0, 2_500, 500))


def test_what_cannot_be_thinned_out_goes_in_the_order_of_its_age(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, file_bytes=1_000, older_bytes=4_000) as log:
        for number in range(500):
            log.write("warning", text=number)
    kept = [event["text"] for event in read_events(path)]
    assert kept == list(range(kept[0], 500)) and 0 < kept[0] < 480


def test_who_follows_an_open_log_misses_no_line_when_a_new_file_begins(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    seen: list[int] = []
    with EventLog(path, file_bytes=2_000) as log:
        file = path.open("rb")
        for step in range(200):
            log.write("step", step=step)
            while step % 7 == 0:
                seen += [json.loads(line)["step"] for line in file]
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break
                file.close()
                file = path.open("rb")
        seen += [json.loads(line)["step"] for line in file]
        file.close()
    assert seen == list(range(200))


def test_a_reader_that_is_overtaken_by_a_new_file_reads_no_event_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, file_bytes=2_000) as log:
        for step in range(20):
            log.write("step", step=step)
        reader = read_events(path)
        seen = [next(reader)["step"]]
        for step in range(20, 60):
            log.write("step", step=step)
        seen += [event["step"] for event in reader]
    assert seen == sorted(set(seen)) and seen[:20] == list(range(20))


def test_a_log_killed_between_two_files_is_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write_steps(path, range(10))
    path.rename(tmp_path / "events.1.jsonl")
    assert [event["step"] for event in read_events(path)] == list(range(10))
    _write_steps(path, range(10, 20))
    assert [event["step"] for event in read_events(path)] == list(range(20))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk_costs_events_and_not_the_run(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log, Path("/dev/full").open("ab", buffering=0) as full:
        file, log._file = log._file, full
        log.write("step", step=1)
        log.write("step", step=2)
        log._file = file
        log.write("step", step=3)
    events = list(read_events(log.path))
    assert [event.get("step") for event in events] == [None, 3]
    assert "2 events lost: the disk was full" in events[0]["text"]


def test_a_log_of_another_name_is_no_part_of_this_one(tmp_path: Path) -> None:
    for name in ("events.jsonl", "events.jsonl.bak", "events.old.jsonl", "my_events.1.jsonl"):
        with EventLog(tmp_path / name) as log:
            log.write("step", step=1)
    assert len(list(read_events(tmp_path / "events.jsonl"))) == 1


def test_events_come_newest_first_over_all_files_without_reading_more_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write_steps(path, range(150))
    append_event(path, "message", text="a line longer than a block " * 5_000)
    append_event(path, "stage", name="train")
    path.write_bytes(path.read_bytes() + b'{"kind": "cut')
    found = list(newest_events(path))
    assert [event["kind"] for event in found[:3]] == ["stage", "message", "step"]
    assert [event["step"] for event in found[2:]] == list(reversed(range(150)))
    assert [event["kind"] for event in newest_events(path, passed_over="step")] == ["stage", "message"]
    older = next(tmp_path.glob("events.1.jsonl"))
    older.unlink()
    older.mkdir()
    assert next(newest_events(path))["kind"] == "stage"
    assert list(newest_events(tmp_path / "absent" / "events.jsonl")) == []


def test_an_event_is_added_only_to_a_log_that_is_there_and_never_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_event(path, "control", command="stop")
    assert not path.exists()
    with EventLog(path, file_bytes=300) as log:
        for step in range(20):
            append_event(path, "memory", ram_bytes=step)
            log.write("step", step=step)
        assert [event["kind"] for event in read_events(path)] == ["memory", "step"] * 20
    assert len(list(tmp_path.iterdir())) > 2


def test_figures_of_memory_leave_room_for_the_course_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    now = itertools.count(1_000_000, 10)
    monkeypatch.setattr("toolkit.output.events.time.time", lambda: float(next(now)))
    with EventLog(path, file_bytes=2_000, older_bytes=4_000) as log:
        for step in range(400):
            log.write("memory", ram_bytes=1)
            log.write("step", step=step, loss=0.5)
    events = list(read_events(path))
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps[0] == 0 and steps[-1] == 399
    assert 10 < sum(event["kind"] == "memory" for event in events) < 200
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 8_000


def test_the_kinds_are_those_that_the_log_describes() -> None:
    described = re.findall(r"^ {8}(\w+) {2,}", EventLog.__doc__ or "", re.MULTILINE)
    assert described == list(get_args(EventKind))


def test_a_full_file_of_a_folder_that_is_gone_breaks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with EventLog(folder / "events.jsonl", file_bytes=200) as log:
        log.write("message", text="here")
        folder.rename(tmp_path / "moved")
        for number in range(10):
            log.write("message", text=str(number))
    assert [event["text"] for event in read_events(tmp_path / "moved" / "events.jsonl")] == ["here", *"0123456789"]
    assert not folder.exists()
