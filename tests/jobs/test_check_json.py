"""`run.py --check --json`: one document for programs, and no model library for a job whose files are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import run
from jobs.process import model_files
from tests.test_architecture import HEAVY, ROOT
from tests.tiny import run_job, write_job


def _check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run.main(["--check", "--json", *arguments])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


def test_a_sound_job_is_printed_as_the_value_that_the_run_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = _check(capsys, str(write_job(tmp_path)))
    (job,) = document["jobs"]
    (process,) = job["processes"]
    assert (code, document["ok"], job["problems"]) == (0, True, [])
    assert process["memory"]["fits"] and process["memory"]["phases"][0]["stage"] == "encode text"
    assert process["needs"]["passes"] == {"with_gradient": 1, "without_gradient": 0}
    assert process["disk"]["checkpoints_bytes"] > 0
    assert process["resume"]["step"] == 0


def test_a_job_that_does_not_fit_comes_with_the_ways_to_make_it_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = _check(capsys, "--vram", "0.5", str(write_job(tmp_path)))
    (process,) = document["jobs"][0]["processes"]
    assert (code, document["ok"], process["memory"]["fits"]) == (2, False, False)
    assert process["problems"][0]["where"] == "memory"
    assert "a card of 0.5 GB has 0.5" in process["refusal"]


def test_mistakes_of_a_job_file_stand_in_the_document_by_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = _check(capsys, str(write_job(tmp_path)), str(tmp_path / "absent.yaml"), "--set", "train.stepz=3")
    assert code == 2
    wrong, absent = document["jobs"]
    assert wrong["problems"][0]["where"] == "config.process[0].train.stepz"
    assert "no such job file" in absent["refusal"]


def test_a_check_of_known_files_loads_no_model_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first check compares the model's files with the real classes; the second, a process of its own, remembers."""
    job = write_job(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run.main(["--check", "--no-cache", str(job)]) == 0
    assert not (tmp_path / "cache").exists()
    assert run.main(["--check", str(job)]) == 0
    script = f"import sys, run; run.main(sys.argv[1:]); print('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    command = [sys.executable, "-c", script, "--check", str(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
    monkeypatch.setattr(model_files, "_inspect", _inspected)
    with pytest.raises(AssertionError, match="inspected"):
        run.main(["--check", "--no-cache", str(job)])


def _inspected(*given: Any) -> Any:
    raise AssertionError("inspected")


def test_a_mistake_names_its_line_and_the_nearest_spelling_and_a_remark_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path, train={"lrr": 1, "optimizer": "adamw9bit"})
    _, document = _check(capsys, str(job))
    problems = {problem["where"]: problem for problem in document["jobs"][0]["problems"]}
    lines = job.read_text().splitlines()
    for key, suggestion in (("lrr", "lr"), ("optimizer", "adamw8bit")):
        problem = problems[f"config.process[0].train.{key}"]
        line = lines[problem["line"] - 1]
        assert line[problem["column"] - 1 :].startswith(f"{key}:")
        assert (problem["severity"], problem["suggestion"]) == ("error", suggestion)
    job = write_job(tmp_path, sqlite_db_path="elsewhere.db")
    _, document = _check(capsys, str(job))
    (remark,) = document["jobs"][0]["remarks"]
    assert (remark["severity"], remark["where"]) == ("notice", "config.process[0].sqlite_db_path")
    assert "sqlite_db_path" in job.read_text().splitlines()[remark["line"] - 1]


def test_what_the_check_finds_in_files_has_the_line_that_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path)
    (tmp_path / "images" / "cut.png").write_bytes(b"")
    _, document = _check(capsys, str(job))
    (problem,) = document["jobs"][0]["processes"][0]["problems"]
    assert problem["where"].endswith("cut.png")
    assert "folder_path" in job.read_text().splitlines()[problem["line"] - 1]


def test_changes_since_the_checkpoint_are_listed_with_their_effect_on_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path)
    assert run_job(job).status == "done"
    changed = ("--set", "train.lr=0.5", "--set", "save.save_every=2", "--set", "train.steps=8")
    capsys.readouterr()
    for accepted, ok in (((), False), (("--accept-config-change",), True)):
        _, document = _check(capsys, str(job), *changed, *accepted)
        (process,) = document["jobs"][0]["processes"]
        found = {difference["key"]: difference for difference in process["resume"]["differences"]}
        assert process["ok"] == ok
        assert (found["train.lr"]["before"], found["train.lr"]["now"]) == ("0.001", "0.5")
        assert {key: found[key]["is_harmless"] for key in found} == {
            "train.lr": False,
            "save.save_every": True,
            "train.steps": True,
        }
