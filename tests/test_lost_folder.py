"""Whole runs of the tiny model whose output folder is moved, deleted or replaced while they train."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import run_job, write_job
from toolkit.output.events import newest_events
from toolkit.runtime.stop import StopRequest


class _Disturbed(StopRequest):
    """Of a run to whose folder something is done after its first step."""

    def __init__(self, disturb: Callable[[], object], *, stops: bool = False) -> None:
        super().__init__()
        done: list[bool] = []

        def look() -> None:
            if not done:
                done.append(True)
                disturb()
                if stops:
                    self.ask()

        self.commands.look = look  # type: ignore[method-assign]


@pytest.mark.parametrize("stops", [False, True])
def test_a_run_whose_folder_is_deleted_says_so_and_leaves_nothing_in_its_place(
    tmp_path: Path, stops: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    job, output = write_job(tmp_path), tmp_path / "output" / "job"
    assert run_job(job, _Disturbed(lambda: shutil.rmtree(output), stops=stops)).status == "failed"
    assert f"The output folder {output} was moved or deleted while the run was using it" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("options", [{}, {"train": {"disable_sampling": False}, "sample": {"sample_every": 2}}])
def test_a_run_whose_folder_is_moved_says_so_in_the_log_that_went_with_it(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    prompts: dict[str, Any] = {"sample": {"prompts": ["a red circle"], **options.get("sample", {})}}
    job, output, moved = write_job(tmp_path, **options | prompts), tmp_path / "output" / "job", tmp_path / "moved"
    assert run_job(job, _Disturbed(lambda: output.rename(moved))).status == "failed"
    assert not output.exists()
    end, error, *_ = newest_events(moved / "events.jsonl")
    assert (end["kind"], end["status"], error["error"]) == ("end", "failed", "FolderLost")
    assert "move it back" in error["message"]


def test_a_run_writes_nothing_into_a_folder_that_took_the_place_of_its_own(tmp_path: Path) -> None:
    job, output = write_job(tmp_path), tmp_path / "output" / "job"

    def replace() -> None:
        output.rename(tmp_path / "moved")
        output.mkdir()
        (output / "notes.txt").write_text("mine", encoding="utf-8")

    assert run_job(job, _Disturbed(replace)).status == "failed"
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_who_deletes_the_lock_file_or_moves_the_folder_there_and_back_loses_nothing(tmp_path: Path) -> None:
    job, output = write_job(tmp_path), tmp_path / "output" / "job"

    def there_and_back() -> None:
        (output / ".run.lock").unlink()
        output.rename(tmp_path / "moved")
        (tmp_path / "moved").rename(output)

    assert run_job(job, _Disturbed(there_and_back)).status == "done"
    assert (output / "job.safetensors").is_file()
