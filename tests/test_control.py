"""Whole runs of the tiny model that receive commands while they are running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_architecture import ROOT
from tests.tiny import losses, run_job, write_job
from toolkit.output.events import newest_events, read_events
from toolkit.output.run_record import read_runs
from toolkit.runtime.control import send
from toolkit.runtime.stop import StopRequest


def _events(output: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(output / "events.jsonl") if event["kind"] == kind]


class _SendsCommands(StopRequest):
    """Sends commands to its own run when that first looks for them, after its first step."""

    def __init__(self, output: Path, *commands: str) -> None:
        super().__init__()
        self.output, self.unsent = output, list(commands)
        look = self.commands.look

        def send_first() -> None:
            while self.unsent:
                send(self.output, self.unsent.pop(0))  # type: ignore[arg-type]
            look()

        self.commands.look = send_first  # type: ignore[method-assign]


def test_a_run_saves_samples_and_stops_on_command(tmp_path: Path) -> None:
    sample = {"sample_every": 0, "prompts": ["a red circle --seed 3 --m 0.5"]}
    options: dict[str, Any] = {"sample": sample, "save": {"save_every": 0}}
    options["train"] = {"disable_sampling": False, "skip_first_sample": True}
    job, output = write_job(tmp_path, **options), tmp_path / "output" / "job"
    assert run_job(job, _SendsCommands(output, "save", "sample")).status == "done"
    assert [event["step"] for event in _events(output, "checkpoint") if event["state"] == "written"] == [1, 6]
    first, last = _events(output, "checkpoint")
    assert (first["path"], first["final"], last["path"], last["final"]) == (
        "job_000000001.safetensors", False, "job.safetensors", True,
    )  # fmt: skip
    assert first["bytes"] == (output / first["path"]).stat().st_size
    drawn, _ = _events(output, "sample")
    assert (output / drawn["path"]).is_file() and drawn["path"].startswith("samples/")
    said = {key: value for key, value in drawn.items() if key not in ("time", "kind", "path")}
    asked = {"index": 0, "prompt": "a red circle", "seed": 3, "width": 32, "height": 32, "network_multiplier": 0.5}
    assert said == {"step": 1, **asked}
    assert [event["command"] for event in _events(output, "control")] == ["save", "sample"]
    assert not (output / ".run.control").exists()

    other = tmp_path / "other"
    other.mkdir()
    stopped = other / "output" / "job"
    job = write_job(other, **options)
    assert run_job(job, _SendsCommands(stopped, "stop")).status == "interrupted"
    (end,) = _events(stopped, "end")
    assert (end["status"], end["exit_code"], end["step"]) == ("interrupted", 130, 1)
    assert run_job(job).status == "done"
    assert losses(stopped) == losses(output)


def test_the_events_of_a_start_carry_its_name_and_its_check(tmp_path: Path) -> None:
    job, output = write_job(tmp_path), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    name = read_runs(output)[0].start["run"]
    assert (_events(output, "job")[0]["run"], _events(output, "end")[0]["run"]) == (name, name)
    assert not any(event["name"] == "check" for event in _events(output, "stage")), "there was no log yet"
    counted = {(event["stage"], event["unit"], event["total"]) for event in _events(output, "progress")}
    assert {("encode text", "texts", 5), ("encode images", "images", 4)} <= counted
    (tmp_path / "images" / "cut.png").write_bytes(b"")
    assert run_job(job).status == "refused"
    *_, started, done, end = read_events(output / "events.jsonl")
    assert [started["name"], started["state"], done["state"]] == ["check", "started", "done"]
    assert (end["status"], end["exit_code"], end["run"]) == ("refused", 2, started["run"])
    assert "cut.png" in end["error"]


def test_a_refused_start_leaves_no_trace_where_there_was_none(tmp_path: Path) -> None:
    job, output = write_job(tmp_path), tmp_path / "output" / "job"
    (tmp_path / "images" / "cut.png").write_bytes(b"")
    assert run_job(job).status == "refused"
    assert not output.exists()
    output.mkdir(parents=True)
    (output / "config.yaml").write_text("of another program")
    assert run_job(job).status == "refused"
    assert [path.name for path in output.iterdir()] == ["config.yaml"]


@pytest.mark.skipif(os.name == "nt", reason="one way to start a process is enough here")
def test_the_command_line_stops_a_run_in_a_stage_before_training(tmp_path: Path) -> None:
    """A process of its own: the command must interrupt what its main thread does."""
    code = (
        "import sys, time, run, jobs.process.encode_stages as stages\n"
        f"stages._encode = lambda *arguments: (open({str(tmp_path / 'encodes')!r}, 'w').close(), time.sleep(600))\n"
        "sys.exit(run.main(sys.argv[1:]))"
    )
    job, output = write_job(tmp_path), tmp_path / "output" / "job"
    with subprocess.Popen([sys.executable, "-c", code, str(job)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (tmp_path / "encodes").exists():
            time.sleep(0.1)
        sent = subprocess.run([sys.executable, "run.py", "--tell", str(output), "stop"], cwd=ROOT)
        assert sent.returncode == 0
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Stopped while encoding captions" in errors
    end = next(newest_events(output / "events.jsonl"))
    assert (end["kind"], end["status"], end["step"]) == ("end", "interrupted", None)
