"""jobs.status"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.status import status
from tests.small_run import SmallRun
from toolkit.errors import UserError
from toolkit.output.lock import RunLock
from toolkit.output.run_record import RunRecord


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "job"
    facts = {"command": "run.py job.yaml", "versions": {"torch": "2"}, "seed": 3, "config_hash": "ab" * 32}
    folder.mkdir()
    with RunRecord(folder, facts) as record:
        SmallRun().run(folder)
        record.resumed(0, device="cpu")
        record.ends("done")
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "job")


def test_it_shows_runs_last_step_and_bundles(folder: Path) -> None:
    text = "\n".join(status(folder))
    assert "no run is using it" in text
    assert "last step recorded: 6" in text
    assert "done, from step 0" in text
    assert "run.py job.yaml" in text
    assert "torch 2; device cpu; seed 3; config abababababab" in text
    assert [line.split(",")[0].strip() for line in status(folder) if line.startswith("  step")] == [
        "step 2: weights only", "step 4: valid", "step 6: valid",
    ]  # fmt: skip


def test_it_shows_what_is_broken_gone_and_in_use(folder: Path) -> None:
    weights = folder / "state" / "000000004" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    (folder / "state" / "000000006" / "manifest.json").unlink()
    (folder / "job_000000002.safetensors").unlink()
    with RunLock(folder):
        text = "\n".join(status(folder))
    assert "in use by process" in text
    assert "step 4: BROKEN, weights.safetensors is damaged" in text
    assert "step 6: unfinished" in text
    assert "weights were moved or deleted: job_000000002.safetensors" in text


def test_a_folder_that_is_ruined_or_empty_is_still_described(folder: Path, tmp_path: Path) -> None:
    for name in ("events.jsonl", "runs.jsonl", ".run.lock"):
        (folder / name).write_bytes(b"\xff\x00[[{")
    shutil.rmtree(folder / "state")
    (folder / "state").write_bytes(b"a file")
    assert "runs: none recorded" in status(folder)
    (tmp_path / "empty").mkdir()
    assert "bundles: none" in status(tmp_path / "empty")


def test_what_is_no_folder_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        status(tmp_path / "nothing")


def test_what_would_steer_the_terminal_is_spelled_out(folder: Path) -> None:
    with RunRecord(folder, {"command": "run.py \x1b[2Jjob.yaml\rok \u202e ümlaut 📷"}) as record:
        record.ends("failed", error="\x07\x9b31m red")
    text = "\n".join(status(folder))
    assert r"run.py \x1b[2Jjob.yaml\rok \u202e ümlaut 📷" in text
    assert r"\x07\x9b31m red" in text
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
