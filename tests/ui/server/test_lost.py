"""Runs whose folder is deleted, moved or replaced while they run: the page tells it, and starts nothing twice."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.ui.server.conftest import TOKEN, Site, options_for, wait_for
from toolkit.output.alive import ProcessIdentity
from ui.server.app import create_app
from ui.server.store import Entry, Store

SLOW: dict[str, Any] = {
    "train": {"steps": 3000, "disable_sampling": True},
    "save": {"save_every": 0},
    "sample": {"sample_every": 0},
}


def start(site: Site, name: str = "job") -> tuple[str, ProcessIdentity]:
    """A run that saves only when it is asked to."""
    id_ = site.make(name, {"step_s": 0.2}, start=True, **SLOW)
    site.wait(id_, "training")
    process = site.services.registry.get(id_).launch.process
    assert isinstance(process, ProcessIdentity)
    return id_, process


def ended(process: ProcessIdentity) -> bool:
    return process.is_alive() is not True


def test_a_run_whose_folder_is_deleted_is_shown_is_not_started_twice_and_can_be_stopped(site: Site) -> None:
    id_, process = start(site)
    shutil.rmtree(site.output())
    job = site.wait(id_, "lost")
    assert "deleted" in job["reason"] and f"Process {process.pid} still runs" in job["reason"]
    assert job["controls"]["actions"] == ["stop", "kill"]
    for action in ("start", "save", "pause", "clone"):
        site.act(id_, action, 409)
    for make_empty_folder in (False, True):
        if make_empty_folder:
            site.output().mkdir()
        answer = site.client.post("/api/jobs", json={"yaml": site.text(), "start": True})
        assert answer.status_code == 409 and str(process.pid) in answer.text
    site.output().rmdir()
    assert site.client.put(f"/api/jobs/{id_}", json={"note": "x"}).status_code == 409
    assert not site.output().exists(), "the page has made the folder anew"
    site.act(id_, "stop")
    wait_for(lambda: ended(process))
    wait_for(lambda: site.client.get(f"/api/jobs/{id_}").status_code == 404)
    assert not site.output().exists()
    assert site.make() == id_


def test_a_run_that_has_lost_its_folder_can_be_ended_at_once_even_by_the_next_server(tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    app = create_app(options_for(tmp_path))
    with TestClient(app, headers=headers) as client:
        id_, process = start(Site(app, client, tmp_path))
    shutil.rmtree(tmp_path / "output" / "job")
    app = create_app(options_for(tmp_path))
    with TestClient(app, headers=headers) as client:
        site = Site(app, client, tmp_path)
        assert f"Process {process.pid} still runs" in site.wait(id_, "lost")["reason"]
        site.act(id_, "start", 409)
        site.act(id_, "kill")
        wait_for(lambda: ended(process))
        wait_for(lambda: client.get(f"/api/jobs/{id_}").status_code == 404)


def test_a_folder_that_is_moved_while_it_is_used_is_shown_where_it_is_and_may_be_moved_back(site: Site) -> None:
    id_, process = start(site)
    site.output().rename(site.output("moved"))
    moved = wait_for(
        lambda: [row for row in site.client.get("/api/jobs").json()["jobs"] if row["output_folder"].endswith("moved")]
    )[0]["id"]
    reason = site.wait(moved, "lost")["reason"]
    assert f"moved here from {site.output()}" in reason and f"Process {process.pid} still runs" in reason
    site.act(moved, "start", 409)
    assert site.client.post("/api/jobs", json={"yaml": site.text(), "start": True}).status_code == 409
    wait_for(lambda: len(site.client.get("/api/jobs").json()["jobs"]) == 1)
    site.output("moved").rename(site.output())
    wait_for(lambda: site.client.get(f"/api/jobs/{id_}").status_code == 200)
    site.wait(id_, "training")
    site.output().rename(site.output("moved"))
    wait_for(lambda: site.client.get(f"/api/jobs/{moved}").status_code == 200)
    site.wait(moved, "lost")
    site.act(moved, "stop")
    wait_for(lambda: ended(process))
    assert "moved or deleted while the run was using it" in site.wait(moved, "failed")["reason"]
    assert not site.output().exists()


def test_a_folder_that_replaces_that_of_a_live_run_is_not_mistaken_for_it(site: Site) -> None:
    id_, process = start(site)
    shutil.rmtree(site.output())
    site.output().mkdir()
    (site.output() / "job.yaml").write_text(site.text(), encoding="utf-8")
    (site.output() / "notes.json").write_text('{"created": 1.0}', encoding="utf-8")
    assert "replaced by another" in site.wait(id_, "lost")["reason"]
    site.act(id_, "start", 409)
    assert site.client.delete(f"/api/jobs/{id_}").status_code == 409
    site.act(id_, "stop")
    wait_for(lambda: ended(process))
    site.wait(id_, "draft")
    assert sorted(path.name for path in site.output().iterdir()) == ["job.yaml", "notes.json"]


@pytest.mark.parametrize("jump_s", [-7200.0, pytest.param(7200.0, marks=pytest.mark.torture)])
def test_a_clock_that_is_set_back_or_forth_changes_no_state_and_starts_nothing_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """The server's clock jumps; runs write the old time, as those of before the jump did."""
    real = time.time
    site.wait(site.make("before", start=True), "done")
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 3000, "disable_sampling": True})
    site.wait(id_, "training")
    for module in ("launch", "job", "scheduler"):
        monkeypatch.setattr(f"ui.server.jobs.{module}.time.time", lambda: real() + jump_s)
    for _ in range(5):
        assert site.job(id_)["state"] == "training"
        time.sleep(0.1)
    site.act(id_, "stop")
    site.wait(id_, "interrupted")
    for count in (2, 3):  # started after the jump: newer than a start with another time
        site.act(id_, "start")
        job = site.wait(id_, "training")
        assert len(job["runs"]) == count
        site.act(id_, "stop")
        site.wait(id_, "interrupted")
        time.sleep(1.2)  # the queue looks twice a second
        assert len(site.job(id_)["runs"]) == count


def test_a_start_that_was_not_written_down_is_known_whatever_the_clock_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server is killed after it has started a job and before it takes it out of the queue."""
    site.client.put("/api/queue", json={"order": {}, "is_paused": True})
    id_ = site.make(start=True)
    real = time.time
    monkeypatch.setattr("ui.server.jobs.launch.time.time", lambda: real() - 7200)
    registry, job = site.services.registry, site.services.registry.get(id_)
    registry.running.start(job.folder, site.services.scheduler.program, (), gpus=(), env={})
    wait_for(lambda: len(site.job(id_)["runs"]) == 1)
    site.client.put("/api/queue", json={"order": {}, "is_paused": False})
    site.wait(id_, "done")
    time.sleep(1.2)
    assert len(site.job(id_)["runs"]) == 1


def test_an_index_of_an_older_version_keeps_its_queue(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with closing(sqlite3.connect(path)) as old, old:
        old.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, folder TEXT NOT NULL, place TEXT NOT NULL DEFAULT '', gpu INTEGER,"
            " position REAL NOT NULL DEFAULT 0, arguments TEXT NOT NULL DEFAULT '[]', wish TEXT NOT NULL DEFAULT '',"
            " wished REAL NOT NULL DEFAULT 0)"
        )
        old.execute("INSERT INTO jobs (id, folder, place) VALUES ('a', '/x', 'queued')")
    store = Store(path)
    store.open()
    assert store.notice is None
    assert store.entries() == {"a": Entry("a", Path("/x"), "queued")}
    store.put(Entry("b", tmp_path, "queued", start="never"))
    assert store.entries()["b"].start == "never"
    store.close()
