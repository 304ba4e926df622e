"""toolkit.output.run_record"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.output.events import EventLog, newest_events
from toolkit.output.run_record import EXIT_CODES, RUNS_FILE, RunRecord, read_runs


def test_a_start_is_recorded_with_how_it_ended(tmp_path: Path) -> None:
    with RunRecord(tmp_path, {"command": "run.py job.yaml"}) as record:
        assert [run.status for run in read_runs(tmp_path)] == ["running"]
        record.resumed(40, device="cpu")
        record.ends("done")
    (run,) = read_runs(tmp_path)
    assert (run.status, run.start["command"], run.resumed["step"]) == ("done", "run.py job.yaml", 40)


def test_a_run_that_raises_has_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunRecord(tmp_path, {}):
        raise ZeroDivisionError
    assert read_runs(tmp_path)[0].status == "failed"


def test_a_start_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    with RunRecord(tmp_path, {}):
        pass
    path = tmp_path / RUNS_FILE
    start = json.loads(path.read_text().splitlines()[0])
    start["process"]["started"] -= 1
    path.write_text(json.dumps(start))
    assert read_runs(tmp_path)[0].status == "killed"


@pytest.mark.parametrize(
    ("process", "status"),
    [
        ({"boot": "00000000"}, "ended by a reboot"),
        ({"boot": "00000000", "host": "00000000"}, "another machine"),
        ({"host": "", "boot": ""}, "end unknown"),
        ({"host": None}, "end unknown"),
    ],
    ids=["the host was booted since", "on another host", "a host without an identity", "an older version"],
)
def test_a_start_that_cannot_be_seen_any_more_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: dict[str, Any], status: str
) -> None:
    monkeypatch.setattr("toolkit.output.alive.this_host", lambda: "11111111")
    with RunRecord(tmp_path, {}):
        pass
    path = tmp_path / RUNS_FILE
    start = json.loads(path.read_text().splitlines()[0])
    start["process"] |= {"machine": "00000000", **process}
    if process == {"host": None}:
        start["process"] = {key: start["process"][key] for key in ("machine", "pid", "started")}
    path.write_text(json.dumps(start))
    assert read_runs(tmp_path)[0].status == status


def test_the_event_log_gets_the_end_with_exit_code_and_step(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("step", step=7)
        for status, code in EXIT_CODES.items():
            with RunRecord(tmp_path, {}) as record:
                log.write("job", run=record.run)
                record.resumed(7)
                if status == "failed":
                    log.write("step", step=8)
                record.ends(status, **({"error": "too late"} if status == "failed" else {}))
            end = next(newest_events(log.path))
            assert (end["kind"], end["run"], end["exit_code"]) == ("end", record.run, code)
            assert (end["step"], end["error"]) == ((8, "too late") if status == "failed" else (7, None))
    assert next(newest_events(log.path))["status"] == "stopped", "one word, unlike in runs.jsonl"


def test_a_folder_without_a_log_gets_none_from_the_record(tmp_path: Path) -> None:
    with RunRecord(tmp_path, {}) as record:
        record.ends("interrupted")
    assert [path.name for path in tmp_path.iterdir()] == [RUNS_FILE]


@pytest.mark.parametrize("junk", ['{"kind": "sta', "null", "[1]", '{"kind": "end", "run": "of nobody"}', "\udcff\x00"])
def test_a_line_that_is_damaged_takes_no_other_with_it(tmp_path: Path, junk: str) -> None:
    path = tmp_path / RUNS_FILE
    path.write_bytes(junk.encode("utf-8", errors="surrogateescape"))
    with RunRecord(tmp_path, {}) as record:
        record.ends("done")
    assert [run.status for run in read_runs(tmp_path)] == ["done"]


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "no such folder", {}) as record:
        record.resumed(0)
    assert read_runs(tmp_path / "no such folder") == []


def test_of_a_very_long_record_the_latest_runs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.output.run_record._MOST_BYTES", 2000)
    starts = [{"kind": "start", "run": str(number), "number": number} for number in range(1000)]
    (tmp_path / RUNS_FILE).write_text("".join(json.dumps(start) + "\n" for start in starts))
    numbers = [run.start["number"] for run in read_runs(tmp_path)]
    assert numbers == list(range(1000 - len(numbers), 1000)) and len(numbers) > 10
