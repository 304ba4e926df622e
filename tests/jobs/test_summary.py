from __future__ import annotations

from pathlib import Path

from jobs.job import JobResult
from jobs.summary import summary


def test_the_summary_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for name in ("cat.safetensors", "samples/grid.jpg"):
        (tmp_path / name).touch()
    text = summary([JobResult("cat", "done", 65.0, (tmp_path,))])
    assert text.splitlines() == [
        "",
        "Summary",
        "  cat  done         1m 05s",
        f"    folder   {tmp_path}",
        f"    weights  {tmp_path / 'cat.safetensors'}",
        f"    samples  {tmp_path / 'samples/grid.jpg'}",
    ]


def test_the_summary_names_weights_that_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cat" / "transformer").mkdir(parents=True)
    assert f"    weights  {tmp_path / 'cat'}" in summary([JobResult("cat", "done", 65.0, (tmp_path,))]).splitlines()


def test_a_job_that_was_not_started_shows_no_folder(tmp_path: Path) -> None:
    text = summary([JobResult("cat", "not started", 0.0, (tmp_path,))])
    assert text.splitlines() == ["", "Summary", "  cat  not started  0s"]
