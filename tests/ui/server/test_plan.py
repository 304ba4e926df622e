"""What is said of the time and the memory that jobs take, while they wait and while they run."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.ui.server.conftest import Site, wait_for
from ui.server.jobs import scheduler
from ui.server.notices import notifier
from ui.server.schemas import GpuInfo

_GB = 1 << 30


def row(site: Site, id_: str) -> dict[str, Any]:
    return next(dict(job) for job in site.client.get("/api/jobs").json()["jobs"] if job["id"] == id_)


def has_made_steps(site: Site, id_: str) -> bool:
    return any(job.id == id_ and job.summary.steps_s for job in site.services.registry.all())


def test_a_job_that_waits_says_how_long_it_will_take(site: Site) -> None:
    done = site.make("before", {"step_s": 0.05}, start=True)
    site.wait(done, "done")
    running = site.make("running", {"step_s": 0.1}, start=True, train={"steps": 900})
    wait_for(lambda: has_made_steps(site, running), lambda: row(site, running))
    waiting = site.make("waiting", start=True, train={"steps": 100})
    wrong = site.make("wrong", start=True, datasets=[{"folder_path": str(site.folder / "nowhere")}])
    # the first check of a model looks into its files, in a process of its own
    wait_for(lambda: row(site, wrong)["planned"], lambda: row(site, wrong), timeout_s=90)
    planned = row(site, waiting)["planned"]
    assert 4 < planned["low_s"] <= 6 <= planned["high_s"] < 15, planned
    assert planned["basis"] == "based on 2 runs here"
    assert row(site, wrong)["planned"] == {"low_s": None, "high_s": None, "basis": "its check finds problems"}
    assert row(site, done)["planned"] is None
    site.act(running, "kill")


def test_a_job_that_lacks_memory_is_held_and_people_are_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "HELD_S", 0.3)
    full = card(used_bytes=24 * _GB)
    monkeypatch.setattr(site.services.cards, "all", lambda: [full])
    monkeypatch.setattr(site.services.checker, "peaks", lambda text: ([20 * _GB], _GB))
    id_ = site.make(start=True)
    held = wait_for(lambda: found if (found := row(site, id_))["is_held"] else None, lambda: row(site, id_))
    assert held["state"] == "queued"
    assert held["reason"].startswith("Waiting for memory on GPU 0")
    (notice,) = wait_for(lambda: site.client.get("/api/notices").json()["notices"])
    assert (notice["occasion"], notice["job_id"], notice["title"]) == ("needs", id_, "job: held back for 0 minutes")
    assert notice["text"].startswith(held["reason"])
    site.services.notifier.look()
    assert site.client.get("/api/notices").json()["notices"] == [notice]
    site.act(id_, "pause")
    wait_for(lambda: not site.services.registry.held_since)


def test_a_job_whose_memory_is_still_being_worked_out_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    is_known = threading.Event()
    monkeypatch.setattr(scheduler, "_SLOW_S", 0.0)
    monkeypatch.setattr(site.services.checker, "peaks", lambda text: None if is_known.wait(60) else ([], 0))
    try:
        id_ = site.make(start=True)
        wait_for(lambda: row(site, id_)["reason"].startswith("Working out the memory"))
        assert not site.services.registry.held_since, "it does not wait for what others hold"
    finally:
        is_known.set()
    site.wait(id_, "done")


def test_the_memory_of_a_card_is_split_by_who_uses_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.services.cards, "all", lambda: [card(used_bytes=10 * _GB)])
    id_ = site.make(script={"step_s": 0.1, "gpu_bytes": 7 * _GB}, start=True, train={"steps": 900})
    site.wait(id_, "training")
    (gpu,) = site.client.get("/api/machine").json()["gpus"]
    assert (gpu["job_id"], gpu["job_bytes"], gpu["used_bytes"]) == (id_, 7 * _GB, 10 * _GB)
    site.act(id_, "kill")
    site.wait(id_, "stopped", "killed", "interrupted")
    (gpu,) = site.client.get("/api/machine").json()["gpus"]
    assert (gpu["job_id"], gpu["job_bytes"]) == (None, None)


def card(*, used_bytes: int) -> GpuInfo:
    return GpuInfo(
        index=0,
        name="a card",
        total_bytes=24 * _GB,
        used_bytes=used_bytes,
        load=0.5,
        temperature_c=60.0,
        power_w=200.0,
        job_id=None,
    )
