"""Experiment trackers: the real packages, told by a real run, offline."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.tiny import problems_of, run_job, write_job
from toolkit.output.events import EventLog, read_events
from toolkit.output.trackers import TRACKERS, Tracked, tracking


def test_a_run_tells_both_trackers_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2-of-my-own"
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    monkeypatch.setenv("MY_PASSWORD", secret)
    logging = {"use_wandb": True, "use_trackio": True, "project_name": "foxes", "run_name": "first"}
    sections = {
        "train": {"steps": 3, "disable_sampling": False},
        "sample": {"prompts": ["a ${MY_PASSWORD}"], "sample_every": 3, "sample_steps": 1},
    }
    assert run_job(write_job(tmp_path, name="fox", logging=logging, **sections)).status == "done"
    folder = tmp_path / "output" / "fox"
    assert not [event for event in read_events(folder / "events.jsonl") if event["kind"] == "warning"]
    (written,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"grad_norm" in written.read_bytes()
    assert list((folder / "wandb").rglob("*.jpg")), "samples are told too"
    (database,) = (tmp_path / "trackio").rglob("*.db")
    with sqlite3.connect(database) as connection:
        steps = [row[0] for row in connection.execute("select distinct step from metrics order by step")]
    assert steps == [0, 1, 2, 3]
    everything = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    assert not [path for path in everything if secret.encode() in path.read_bytes()]


def test_a_tracker_that_fails_is_told_once_and_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def log(self, *_: object, **__: object) -> None:
            raise RuntimeError("the server is gone")

        def finish(self) -> None:
            raise AssertionError("it was left alone")

    monkeypatch.setitem(TRACKERS, "trackio", lambda run: Failing())
    warnings: list[str] = []
    run = Tracked("p", "n", "g", {}, tmp_path)
    with EventLog(tmp_path / "events.jsonl") as log, tracking(["trackio"], run, warnings.append) as take:
        log.listeners.append(take)
        for step in (1, 2):
            log.write("step", step=step, loss=0.5)
    assert warnings == ["trackio gets no more data: RuntimeError: the server is gone"]
    assert len(list(read_events(tmp_path / "events.jsonl"))) == 2


def test_a_tracker_without_an_account_or_its_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert any("no account to log in to" in problem for problem in problems_of(tmp_path, logging={"use_wandb": True}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert any("not installed" in problem for problem in problems_of(tmp_path, logging={"use_trackio": True}))
