"""toolkit.train.finished"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import run_job, write_job
from toolkit.encode.storage import OVERFLOW_CACHE
from toolkit.output.bundles import step_folders
from toolkit.output.events import read_events


def _files(folder: Path) -> dict[str, tuple[int, bytes]]:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".safetensors", ".jpg", ".json")]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}


def test_a_finished_job_says_so_before_it_loads_anything_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole runs: what a second start leaves of the first one."""
    job, output = write_job(tmp_path, train={"steps": 2}, save={"save_every": 1}), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    before = _files(output)
    num_events = len(list(read_events(output / "events.jsonl")))
    capsys.readouterr()
    assert run_job(job).status == "done"
    assert "all 2 steps are done; raise train.steps to go on" in capsys.readouterr().out
    assert _files(output) == before
    added = list(read_events(output / "events.jsonl"))[num_events:]
    assert {event["name"] for event in added if event["kind"] == "stage"} == {"check"}
    # What is not there, or is wanted otherwise, is still written.
    (output / "job.safetensors").unlink()
    assert run_job(job).status == "done"
    assert (output / "job.safetensors").read_bytes() == before["job.safetensors"][1]
    assert run_job(job, None, "save.dtype=bf16").status == "done"
    assert (output / "job.safetensors").stat().st_size < len(before["job.safetensors"][1])


def test_a_finished_job_deletes_what_a_start_killed_after_the_last_save_could_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keeping less stands for it: the folder is that of a run whose retention is still to come."""
    job, output = write_job(tmp_path, train={"steps": 4}, save={"save_every": 1}), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    final = (output / "job.safetensors").read_bytes()
    assert [int(folder.name) for folder in step_folders(output)] == [1, 2, 3, 4]
    capsys.readouterr()
    assert run_job(job, None, "save.max_step_saves_to_keep=1").status == "done"
    assert [int(folder.name) for folder in step_folders(output)] == [3, 4]
    assert "deleted by retention: job_000000001.safetensors" in capsys.readouterr().err
    assert (output / "job.safetensors").read_bytes() == final


def test_a_finished_job_deletes_the_overflow_that_a_start_killed_before_its_end_left(tmp_path: Path) -> None:
    job, output = write_job(tmp_path, train={"steps": 1}), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    overflow = output / OVERFLOW_CACHE
    overflow.mkdir()
    (overflow / "left.safetensors").write_bytes(b"")
    assert run_job(job).status == "done"
    assert not overflow.exists()
