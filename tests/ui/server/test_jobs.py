"""Jobs from draft to done: every state comes from the folder and the process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from tests.ui.server.conftest import ROOT, SCRIPTED, TOKEN, Site, options_for, wait_for
from toolkit import files
from ui.server.app import create_app
from ui.server.jobs.settings import settings_of
from ui.server.options import Options


def test_a_job_goes_from_draft_to_done(site: Site) -> None:
    id_ = site.make()
    assert site.job(id_)["state"] == "draft"
    site.act(id_, "start")
    job = site.wait(id_, "done", "failed", "refused")
    assert job["state"] == "done", job
    assert job["progress"]["step"] == 6
    assert job["thumb"]


def test_stopping_saves_and_the_next_start_goes_on_from_there(site: Site) -> None:
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 400})
    site.wait(id_, "training")
    site.act(id_, "stop")
    job = site.wait(id_, "interrupted", "done", "failed")
    assert job["state"] == "interrupted"
    assert "Resumes from step" in job["reason"]
    site.client.put(
        f"/api/jobs/{id_}", json={"yaml": site.text(script={"step_s": 0}, train={"steps": job["progress"]["step"] + 2})}
    )
    site.act(id_, "start")
    assert site.wait(id_, "done", "failed")["runs"][-1]["from_step"] == job["progress"]["step"]


def test_a_refused_job_shows_its_problems(site: Site) -> None:
    id_ = site.make(script={"refuse": "is too large"}, start=True)
    job = site.wait(id_, "refused", "done", "failed")
    assert job["state"] == "refused"
    (problem,) = job["failure"]["problems"]
    assert (problem["where"], problem["what"]) == ("train.lr", "is too large")
    assert "1 mistake" in job["failure"]["log"]


def test_a_failed_job_shows_message_remedy_and_log_and_the_queue_goes_on(site: Site) -> None:
    first = site.make("first", {"fail_at": 5}, start=True)
    second = site.make("second", start=True)
    job = site.wait(first, "failed", "done")
    assert job["state"] == "failed" and "the script said so" in job["reason"]
    assert job["failure"]["message"] == "the script said so"
    assert "checkpoint at step 3" in job["failure"]["remedy"] and "Select Resume" in job["failure"]["remedy"]
    assert {"start", "resume"} <= set(job["controls"]["actions"])
    assert "the script said so" in job["failure"]["log"]
    assert site.wait(second, "done", "failed")["state"] == "done"


def test_only_a_job_with_a_whole_checkpoint_offers_to_resume(site: Site) -> None:
    id_ = site.make(script={"fail_at": 2}, start=True)
    job = site.wait(id_, "failed", "done")
    assert "start" in job["controls"]["actions"] and "resume" not in job["controls"]["actions"]
    assert "Select Start" in job["failure"]["remedy"]
    saved = site.make("saved", {"fail_at": 5}, start=True)
    assert "resume" in site.wait(saved, "failed", "done")["controls"]["actions"]
    next((site.output("saved") / "state").glob("*/manifest.json")).write_text("{", encoding="utf-8")
    job = site.job(saved)
    assert "resume" not in job["controls"]["actions"] and "Select Start" in job["failure"]["remedy"]


def test_a_killed_run_is_distinguished_from_one_that_ended(site: Site) -> None:
    id_ = site.make(script={"die_at": 4}, start=True)
    job = site.wait(id_, "killed", "done", "failed")
    assert (job["state"], "at step 3" in job["reason"]) == ("killed", True)


def test_a_run_that_ignores_every_request_can_be_killed(site: Site) -> None:
    id_ = site.make(script={"hang_at": 2}, start=True)
    job = site.wait(id_, "training")
    assert "kill" in job["controls"]["actions"]
    site.act(id_, "kill")
    assert site.wait(id_, "killed", "stopped")


def test_a_suspended_process_is_shown_as_not_responding(site: Site) -> None:
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 400})
    site.wait(id_, "training")
    pid = site.services.registry.get(id_).launch.process.pid
    os.kill(pid, signal.SIGSTOP)
    job = site.wait(id_, "unresponsive")
    assert "suspended" in job["reason"]
    os.kill(pid, signal.SIGCONT)
    site.wait(id_, "training")


def test_one_runs_at_a_time_in_the_order_of_the_queue(site: Site) -> None:
    running = site.make("a", {"step_s": 0.05}, start=True, train={"steps": 400})
    site.wait(running, "training")
    ids = [site.make(name, start=True) for name in ("b", "c", "d")]
    assert [site.job(id_)["queue_position"] for id_ in ids] == [1, 2, 3]
    queue = site.client.put("/api/queue", json={"order": {"cpu": [ids[2], ids[0], ids[1]]}}).json()
    assert queue["order"]["cpu"] == [ids[2], ids[0], ids[1]]
    site.act(ids[1], "stop")
    assert site.job(ids[1])["state"] == "draft"
    site.act(running, "stop")
    for id_ in (ids[2], ids[0]):
        site.wait(id_, "done")
    ended = [site.services.registry.get(id_).run.end["time"] for id_ in (ids[2], ids[0])]
    assert ended == sorted(ended)


def test_a_paused_job_keeps_its_place(site: Site) -> None:
    site.client.put("/api/queue", json={"order": {}, "is_paused": True})
    first, second = site.make("a", start=True), site.make("b", start=True)
    site.act(first, "pause")
    assert site.job(first)["state"] == "paused"
    assert site.job(second)["queue_position"] == 2
    site.act(first, "start")
    assert (site.job(first)["state"], site.job(first)["queue_position"]) == ("queued", 1)
    site.client.put("/api/queue", json={"order": {}, "is_paused": False})
    assert site.wait(first, "done") and site.wait(second, "done")


def test_pausing_a_run_saves_frees_the_card_and_keeps_the_place(site: Site) -> None:
    first = site.make("a", {"step_s": 0.05}, start=True, train={"steps": 400})
    site.wait(first, "training")
    site.act(first, "pause")
    assert "keeps its place" in site.wait(first, "paused")["reason"] or site.job(first)["state"] == "paused"
    assert site.job(first)["queue_position"] == 1


def test_a_job_is_never_deleted_while_it_runs_and_then_goes_to_the_trash(site: Site) -> None:
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 400})
    site.wait(id_, "training")
    assert site.client.delete(f"/api/jobs/{id_}").status_code == 409
    site.act(id_, "stop")
    site.wait(id_, "interrupted")
    assert site.client.delete(f"/api/jobs/{id_}").status_code == 200
    assert not site.output().exists()
    assert len(list((site.folder / ".trash").iterdir())) == 1
    assert site.client.get(f"/api/jobs/{id_}").status_code == 404


def test_a_clone_has_another_name_and_keeps_comments(site: Site) -> None:
    text = site.text().replace("  name: job", "  name: job  # my words")
    id_ = site.client.post("/api/jobs", json={"yaml": text}).json()["id"]
    copy = site.job(site.act(id_, "clone")["id"])
    assert copy["name"] == "job_2" and "# my words" in copy["yaml"] and copy["state"] == "draft"
    assert site.act(id_, "clone", name="other")["id"] != copy["id"]


def test_a_clone_knows_the_settings_that_the_other_job_has_run_with(site: Site) -> None:
    id_ = site.make(start=True)
    assert site.client.get(f"/api/jobs/{id_}/origins").json()["origins"] == []
    site.wait(id_, "done")
    site.client.put(f"/api/jobs/{id_}", json={"yaml": site.text(train={"steps": 99})})
    copy = site.act(id_, "clone", name="copy")["id"]
    (parent,) = site.client.get(f"/api/jobs/{copy}/origins").json()["origins"]
    assert (parent["kind"], parent["job_id"], parent["name"]) == ("clone", id_, "job")
    assert yaml.safe_load(parent["yaml"])["config"]["process"][0]["train"]["steps"] == 6  # not what was written since
    (own,) = site.client.get(f"/api/jobs/{id_}/origins").json()["origins"]
    assert (own["kind"], own["yaml"]) == ("run", parent["yaml"])
    site.client.delete(f"/api/jobs/{id_}")
    assert site.client.get(f"/api/jobs/{copy}/origins").json()["origins"] == []


def test_a_run_started_in_a_terminal_appears_and_can_be_stopped(site: Site) -> None:
    folder = site.output("outside")
    (site.folder / "outside.yaml").write_text(
        site.text("outside", {"step_s": 0.05}, train={"steps": 400}), encoding="utf-8"
    )
    process = subprocess.Popen([*SCRIPTED, str(site.folder / "outside.yaml")], stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        rows = wait_for(lambda: [it for it in site.client.get("/api/jobs").json()["jobs"] if it["state"] == "training"])
        assert rows[0]["is_external"] and rows[0]["output_folder"] == str(folder)
        site.act(rows[0]["id"], "stop")
        assert site.wait(rows[0]["id"], "interrupted")
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()


def test_resuming_from_a_checkpoint_moves_later_ones_aside(site: Site) -> None:
    id_ = site.make(start=True)
    site.wait(id_, "done")
    found = site.client.get(f"/api/jobs/{id_}/checkpoints").json()["checkpoints"]
    assert [(it["step"], it["is_valid"], it["has_state"]) for it in found] == [(6, True, True), (3, True, True)]
    assert found[0]["is_final"] and found[0]["file"]
    assert not any(it["is_final"] for it in found[1:])
    site.act(id_, "resume", 404, checkpoint=4)
    site.act(id_, "resume", checkpoint=3, steps=8)
    wait_for(lambda: len(site.job(id_)["runs"]) == 2 and site.job(id_)["state"] == "done")
    assert site.job(id_)["runs"][-1]["from_step"] == 3
    assert list((site.output() / "superseded").iterdir())
    assert "steps: 8" in site.job(id_)["yaml"]


def test_a_damaged_checkpoint_is_marked_and_cannot_be_resumed(site: Site) -> None:
    id_ = site.make(start=True)
    site.wait(id_, "done")
    (site.output() / "state" / "000000003" / "weights.safetensors").write_bytes(b"x")
    found = site.client.get(f"/api/jobs/{id_}/checkpoints").json()["checkpoints"]
    assert [it["is_valid"] for it in found] == [True, False] and "cut short" in found[1]["why"]
    site.act(id_, "resume", 409, checkpoint=3)
    assert site.client.delete(f"/api/jobs/{id_}/checkpoints/3").status_code == 200
    assert len(site.client.get(f"/api/jobs/{id_}/checkpoints").json()["checkpoints"]) == 1


def test_a_path_outside_the_roots_is_refused_with_the_remedy(site: Site) -> None:
    answer = site.client.post("/api/jobs", json={"yaml": site.text(datasets=[{"folder_path": "/etc"}])})
    assert answer.status_code == 422
    (problem,) = answer.json()["problems"]
    assert problem["where"] == "datasets.0.folder_path" and "--root" in problem["what"]
    report = site.client.post("/api/check", json={"yaml": site.text(log_dir="/var/log/x")}).json()
    assert not report["ok"] and report["problems"][0]["line"]


def test_a_folder_deleted_under_the_page_is_reported_as_gone(site: Site) -> None:
    id_ = site.make()
    shutil.rmtree(site.output())
    answer = site.client.get(f"/api/jobs/{id_}")
    assert answer.status_code == 404 and "moved or deleted" in answer.json()["problems"][0]["what"]
    assert site.client.get("/api/jobs").json()["total"] == 0


def test_two_jobs_cannot_have_one_folder(site: Site) -> None:
    site.make()
    answer = site.client.post("/api/jobs", json={"yaml": site.text()})
    assert answer.status_code == 409 and answer.json()["problems"][0]["where"] == "config.name"


def test_a_run_of_another_machine_or_another_boot_is_told_apart(site: Site) -> None:
    for name, host in (("far", "another-host"), ("boot", socket.gethostname())):
        folder = site.output(name)
        folder.mkdir(parents=True)
        process = {"machine": "00000000", "pid": 4242, "started": 1}
        start = {"kind": "start", "run": "x", "time": 5.0, "process": process, "status": 1}
        (folder / "runs.jsonl").write_text(json.dumps(start) + "\n", encoding="utf-8")
        lock = {"pid": 4242, "host": host, "since": "2026-01-01", "process": process}
        (folder / ".run.lock").write_text(json.dumps(lock), encoding="utf-8")
    site.services.registry.look(everywhere=True)
    states = {row["name"]: row["state"] for row in site.client.get("/api/jobs").json()["jobs"]}
    assert states == {"far": "elsewhere", "boot": "rebooted"}


def test_a_run_of_a_newer_version_is_described_in_plain_words(site: Site) -> None:
    folder = site.output("new")
    folder.mkdir(parents=True)
    lines = [
        {"kind": "start", "run": "x", "time": 5.0, "process": {"what": 1}},
        {"kind": "end", "run": "x", "status": "teleported"},
    ]
    (folder / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    site.services.registry.look(everywhere=True)
    (row,) = site.client.get("/api/jobs").json()["jobs"]
    assert "teleported" in row["reason"]


def test_what_the_trainer_itself_refuses_is_shown_by_key(tmp_path: Path) -> None:
    """Takes seconds: `run.py` is started."""
    app = create_app(options_for(tmp_path, program=Options(tmp_path, ()).program))
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        site = Site(app, client, tmp_path)
        id_ = site.make(start=True, train={"lrr": 1})
        job = site.wait(id_, "refused", "failed", "done")
        assert job["state"] == "refused"
        assert [problem["where"] for problem in job["failure"]["problems"]] == ["train.lrr"]
        assert "1 mistake" in job["failure"]["message"]


def test_a_full_disk_is_reported_in_plain_words_and_leaves_nothing_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = site.make("whole")

    def full(handle: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "write", full)
        answer = site.client.post("/api/jobs", json={"yaml": site.text()})
        assert answer.status_code == 409 and "disk is full" in answer.json()["problems"][0]["what"]
        answer = site.client.put(f"/api/jobs/{id_}", json={"note": "x"})
        assert answer.status_code == 409
    assert not (site.output() / "job.yaml").exists()
    assert site.job(id_)["note"] == ""
    assert site.client.post("/api/jobs", json={"yaml": site.text()}).status_code == 200


def test_a_list_says_of_a_captioning_job_what_it_does_and_with_which_pictures() -> None:
    process = {"type": "caption", "caption": {"path_to_caption": "datasets/cats"}}
    found = settings_of({"config": {"name": "words", "process": [process]}})
    assert (found.kind, found.dataset) == ("captions", "cats")
