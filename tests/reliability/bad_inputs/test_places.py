"""Whole runs in odd surroundings: locale, file modes, home folder, path names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import run
from tests.reliability.bad_inputs.battery import COUNTS, fingerprint
from tests.tiny import write_job

ROOT = Path(__file__).resolve().parents[3]
STRANGE = "a [b]{c} *?é 狐 🦊 $(touch canary) %s 'q'"


def start(folder: Path, job: Path, *arguments: str, umask: int = 0o022, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run in `folder`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), str(job), *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        umask=umask,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    COUNTS["surroundings", "clear error" if done.returncode else "correct result"] += 1
    return done.returncode, done.stdout, done.stderr


def test_a_run_works_with_a_strange_path_c_locale_no_home_and_a_private_umask(tmp_path: Path) -> None:
    folder = tmp_path / STRANGE
    folder.mkdir()
    job = write_job(folder, name="füchse [1]", train={"steps": 2}, save={"save_every": 1, "max_step_saves_to_keep": 1})
    for suffix in (".png", ".txt"):
        (folder / "images" / f"0{suffix}").rename(folder / "images" / f"🦊\n[0]{suffix}")
    before = fingerprint(folder / "images")
    surroundings = {"LC_ALL": "C", "LANG": "C", "TZ": "Antarctica/Troll", "HOME": "/dev/null/home"}
    code, _, err = start(folder, job, "--log", "log.txt", umask=0o077, HF_HOME="/dev/null/hub", **surroundings)
    assert code == 0, err
    assert "Traceback" not in err
    assert fingerprint(folder / "images") == before
    files = [path for path in (folder / "output" / "füchse [1]").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    weights = [path.name for path in files if path.name.startswith("füchse [1]") and path.suffix == ".safetensors"]
    assert sorted(weights)[0] == "füchse [1].safetensors"
    assert not (folder / "canary").exists()


def test_a_file_name_that_is_not_utf_8_is_named_and_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = write_job(tmp_path)
    (tmp_path / "images" / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"no picture")
    assert run.main([str(job), "--check", "--log", str(tmp_path / "log.txt")]) == 2
    err = capfd.readouterr().err
    assert "skip_unreadable" in err
    assert "Traceback" not in err
    assert "\\udcff\\udcfe.png: cannot be read" in (tmp_path / "log.txt").read_text(encoding="utf-8")
