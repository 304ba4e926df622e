"""jobs.folder_state"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import run
from jobs.folder_state import folder_state
from tests.small_run import SmallRun
from toolkit.output.events import EventLog
from toolkit.output.lock import RunLock
from toolkit.output.run_record import RunRecord


def test_a_finished_job(tmp_path: Path) -> None:
    with RunRecord(tmp_path, {}) as record:
        SmallRun().run(tmp_path)
        record.resumed(0)
        record.ends("done")
    state = folder_state(tmp_path)
    assert (state.holder, state.stage, state.step, state.newest_checkpoint) == (None, None, 6, 6)
    assert state.resumable_steps == (4, 6)
    assert state.run is not None and (state.run.status, state.run.first_step, state.run.error) == ("done", 0, None)
    assert state.run.name == record.run


def test_a_run_under_way_has_a_stage_and_the_steps_of_its_job(tmp_path: Path) -> None:
    with RunLock(tmp_path), RunRecord(tmp_path, {}) as record, EventLog(tmp_path / "events.jsonl") as log:
        log.write("job", run="before", steps=10)
        log.write("step", step=4)
        log.write("end", run="before")
        log.write("stage", name="check", state="started")
        state = folder_state(tmp_path)
        assert (state.stage, state.step, state.total_steps) == ("check", 4, 10)
        log.write("stage", name="check", state="done")
        log.write("job", run=record.run, steps=20)
        assert folder_state(tmp_path).stage is None
        log.write("stage", name="train", state="started")
        for step in range(5, 9):
            log.write("step", step=step)
        state = folder_state(tmp_path)
        assert (state.stage, state.step, state.total_steps) == ("train", 8, 20)
        assert state.holder is not None and not state.holder.is_elsewhere
        assert state.run is not None and state.run.status == "running"


def test_why_a_run_failed_and_what_is_damaged(tmp_path: Path) -> None:
    with RunRecord(tmp_path, {}) as record:
        SmallRun().run(tmp_path)
        record.ends("failed", error="UserError: no paper")
    weights = tmp_path / "state" / "000000006" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    state = folder_state(tmp_path)
    assert state.run is not None and state.run.error == "UserError: no paper"
    assert state.damaged_steps == (), "sizes tell nothing of it"
    assert folder_state(tmp_path, is_thorough=True).damaged_steps == (6,)


def test_a_folder_that_is_ruined_empty_or_absent_has_nothing_in_it(tmp_path: Path) -> None:
    for name in ("events.jsonl", "runs.jsonl", ".run.lock"):
        (tmp_path / name).write_bytes(b"\xff\x00[[{\n[1]\n{}\n")
    for folder in (tmp_path, tmp_path / "absent"):
        state = folder_state(folder)
        assert (state.run, state.step, state.total_steps, state.resumable_steps) == (None, None, None, ())


def test_a_hundred_thousand_steps_are_no_reason_to_wait(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("job", run="a", steps=100_000)
        line = '{"time": 1, "kind": "step", "step": 99999, "loss": 0.5, "lr": 0.0001, "step_s": 0.5}\n' * 100_000
        log.path.write_text(log.path.read_text() + line)
    started = time.process_time()
    state = folder_state(tmp_path)
    assert (state.step, state.total_steps) == (99_999, 100_000)
    assert time.process_time() - started < 0.5


def test_the_command_line_prints_it_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLock(tmp_path), RunRecord(tmp_path, {}):
        assert run.main(["--status", str(tmp_path), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["folders"]
    assert (shown["folder"], shown["run"]["status"]) == (str(tmp_path), "running")
    assert shown["holder"]["pid"] and not shown["holder"]["is_elsewhere"]
    assert run.main(["--status", str(tmp_path / "absent"), "--json"]) == 2
