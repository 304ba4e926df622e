"""toolkit.output.run_record"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.output.run_record import RUNS_FILE, RunRecord, read_runs


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
    start["process"]["machine"] = "00000000"
    path.write_text(json.dumps(start))
    assert "end unknown" in read_runs(tmp_path)[0].status


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
