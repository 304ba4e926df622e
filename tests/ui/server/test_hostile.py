"""What a hostile neighbour, a broken folder or a bad moment does to the server, each once shown to hurt."""

from __future__ import annotations

import base64
import errno
import io
import itertools
import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from jobs.check_json import unreadable_facts
from tests.ui.server.conftest import TOKEN, Site, job_text, options_for, wait_for
from toolkit.cards import find_cards
from toolkit.errors import UserError
from ui.server.app import create_app
from ui.server.auth import write_secret
from ui.server.jobs.launch import Launch, _take, is_alive
from ui.server.main import main
from ui.server.schemas import Message
from ui.server.store import Entry, Store
from ui.server.stream import Hub
from ui.server.views.metrics import Columns

OUTSIDE = "is outside"


def test_a_path_spelled_at_length_cannot_leave_the_roots_either(site: Site) -> None:
    for spelling in ("/" * 5000, "/" + "./" * 3000, "./" * 3000 + "../" * 12):
        text = site.text(datasets=[{"folder_path": f"{spelling}etc", "resolution": 32}])
        answer = site.client.post("/api/jobs", json={"yaml": text})
        assert answer.status_code == 422, spelling[:9]
        assert OUTSIDE in answer.text
        assert len(answer.text) < 3000
        assert OUTSIDE in site.client.post("/api/check", json={"yaml": text}).text


def test_a_refused_path_does_not_reveal_the_variables_in_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hf_very_secret")
    for more in ({"training_folder": "/x/${HUB_TOKEN}"}, {"datasets": [{"folder_path": "/x/${HUB_TOKEN}"}]}):
        for route in ("/api/check", "/api/jobs"):
            answer = site.client.post(route, json={"yaml": site.text(**more)})
            assert "hf_very_secret" not in answer.text
            assert OUTSIDE in answer.text


def test_a_job_text_broken_by_hand_is_refused_in_plain_words(site: Site) -> None:
    id_ = site.make()
    for text in ("config: []\n", "config: null\n", "config: {name: x, process: 5}\n"):
        (site.output() / "job.yaml").write_text(text, encoding="utf-8")
        for action in ("clone", "start"):
            answer = site.client.post(f"/api/jobs/{id_}/{action}", json={})
            assert answer.status_code < 500, (text, answer.text)


def test_a_damaged_file_in_a_folder_hides_no_job_and_breaks_no_route(site: Site) -> None:
    numbers = '{"time": 1e400, "process": null, "gpu": 0, "log_offset": -5, "exit_code": "x"}'
    start = {"kind": "start", "time": 10.0, "process": {"machine": "x", "pid": 3, "started": 5}}
    contents = ("[" * 5000, numbers)
    for number, (name, content) in enumerate(itertools.product((".ui.launch", ".run.lock"), contents)):
        id_, folder = site.make(f"job{number}"), site.output(f"job{number}")
        (folder / "runs.jsonl").write_text(json.dumps(start) + "\n", encoding="utf-8")
        (folder / name).write_text(content, encoding="utf-8")
        answer = site.client.put(f"/api/jobs/{id_}", json={"note": "x"})
        assert answer.status_code == 200, (name, content[:99], answer.text)
    assert not site.services.registry._complained


def test_a_job_below_the_searched_depth_is_found_after_a_restart(tmp_path: Path) -> None:
    made = []
    for round_ in range(2):
        with TestClient(create_app(options_for(tmp_path)), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            if round_ == 0:
                for name, folder in (("deep", "a/b/c/d/e/f"), ("samples", "a")):
                    text = job_text(tmp_path, name, training_folder=str(tmp_path / folder))
                    made.append(client.post("/api/jobs", json={"yaml": text}).json()["id"])
            assert [client.get(f"/api/jobs/{id_}").status_code for id_ in made] == [200, 200]


def test_an_index_that_cannot_be_written_now_is_not_taken_for_damaged(tmp_path: Path, monkeypatch: Any) -> None:
    store = Store(tmp_path / "index.sqlite")
    store.open()
    store.put(Entry("0" * 16, tmp_path, place="queued"))
    store.close()
    monkeypatch.setattr("ui.server.store._TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            store.open()
        other.rollback()
    store.open()
    assert store.entry("0" * 16) is not None
    store.close()


def test_a_job_deleted_outside_is_no_longer_in_the_queue(site: Site) -> None:
    site.client.put("/api/queue", json={"order": {}, "is_paused": True})
    id_ = site.make(start=True)
    assert site.client.get("/api/queue").json()["order"] == {"cpu": [id_]}
    shutil.rmtree(site.output())
    wait_for(lambda: site.client.get("/api/queue").json()["order"] == {})


def test_a_check_that_crashes_does_not_block_the_queue(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(site.services.checker, "peaks", broken)
    site.wait(site.make(start=True), "done")


def test_two_servers_that_look_at_a_folder_at_once_do_not_take_each_other_for_a_run(tmp_path: Path) -> None:
    handle = _take(tmp_path, is_shared=True)
    try:
        assert not is_alive(tmp_path, Launch(1.0, None, None, 0))
    finally:
        os.close(handle)
    handle = _take(tmp_path)
    assert is_alive(tmp_path, Launch(1.0, None, None, 0))
    os.close(handle)


def test_a_small_file_of_a_huge_picture_is_not_decoded(site: Site) -> None:
    id_, picture = site.make(), io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(picture, "PNG")
    (site.output() / "samples").mkdir()
    (site.output() / "samples" / "1700000000000__000000001_0.png").write_bytes(picture.getvalue())
    (sample,) = site.client.get(f"/api/jobs/{id_}/samples").json()["samples"]
    answer = site.client.get(f"/files/{sample['file']}?thumb=256")
    assert (answer.status_code, "too many pixels" in answer.text) == (409, True)
    body = {"filename": "a.png", "base64": base64.b64encode(picture.getvalue()).decode()}
    answer = site.client.post("/api/import", json=body)
    assert (answer.status_code, "too many pixels" in answer.text) == (422, True)


def test_large_messages_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.stream._KEPT_BYTES", 10_000)
    hub = Hub()
    for number in range(100):
        hub.publish("job", Message(kind="job", events=[{"text": "x" * 1000, "number": number}]))
    assert sum(len(sent.data) for sent in hub._ring) <= 10_000
    assert hub._ring[-1].number == 100


def test_evicted_curves_are_read_again_without_duplicates(tmp_path: Path) -> None:
    log = "".join(json.dumps({"kind": "step", "step": step, "loss": 1.0}) + "\n" for step in range(5))
    (tmp_path / "events.jsonl").write_text(log, encoding="utf-8")
    columns = Columns(tmp_path)
    for _ in range(2):
        columns.update()
        assert list(columns.curves.columns["loss"].steps) == [0, 1, 2, 3, 4]
        columns.close()
        assert not columns.curves.columns


def test_a_suspended_run_that_was_asked_to_stop_is_shown_as_suspended(site: Site) -> None:
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 3000, "disable_sampling": True})
    site.wait(id_, "training")
    process = site.services.registry.get(id_).launch.process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        site.act(id_, "stop")
        assert "was suspended" in site.wait(id_, "unresponsive")["reason"]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    site.wait(id_, "interrupted")


def test_a_run_is_asked_to_stop_once_however_often_the_page_asks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = site.make(script={"step_s": 0.05}, start=True, train={"steps": 3000, "disable_sampling": True})
    site.wait(id_, "training")
    asked: list[str] = []
    monkeypatch.setattr("ui.server.actions.actions.ask", lambda _, command: asked.append(command))
    for action in ("stop", "pause", "stop", "pause"):
        site.act(id_, action)
    assert asked == ["stop"]
    assert "keeps its place" in site.job(id_)["reason"]


def test_a_folder_in_which_another_job_runs_is_not_deleted(site: Site) -> None:
    outer = site.make("outer")
    inner = site.make(
        "inner",
        {"step_s": 0.05},
        start=True,
        training_folder=str(site.output("outer")),
        train={"steps": 3000, "disable_sampling": True},
    )
    site.wait(inner, "training")
    answer = site.client.delete(f"/api/jobs/{outer}")
    assert (answer.status_code, "is inside this folder and running" in answer.text) == (409, True)
    assert site.output("outer").is_dir()


def test_a_hub_token_from_the_settings_satisfies_the_licence_gate(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    nothing = unreadable_facts("job.yaml", UserError("not looked into"))
    monkeypatch.setattr(site.services.checker, "_elsewhere", lambda *_: nothing)
    card = next(card for card in find_cards().values() if card.is_gated)
    text = site.text(model={"arch": card.arch, "name_or_path": card.source})
    asked = {"yaml": text}
    before = site.client.post("/api/check", json=asked).json()["gate"]
    site.client.put("/api/settings", json={"hub_token": "hf_abcdefgh"})
    assert before is not None
    assert site.client.post("/api/check", json=asked).json()["gate"] is None


def test_a_store_that_cannot_be_written_is_reported_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file", encoding="utf-8")
    assert main(["--port", "0", "--no-browser", "--store", str(tmp_path / "store")]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_a_full_disk_is_named_by_a_place_that_people_know(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left", "/data/cats/.part-0-1-2-3.txt")

    monkeypatch.setattr("ui.server.actions.actions.write_notes", full)
    answer = site.client.post("/api/jobs", json={"yaml": site.text()})
    what = answer.json()["problems"][0]["what"]
    assert what.startswith("The disk is full.") and what.endswith("(/data/cats)")


def test_a_stranger_cannot_fill_the_memory_with_bodies(site: Site) -> None:
    body = {"filename": "a.png", "base64": "A" * 1_000_000}
    for token, status in (("Bearer wrong", 413), ("", 413), (f"Bearer {TOKEN}", 422)):
        answer = site.client.post("/api/import", json=body, headers={"Authorization": token})
        assert answer.status_code == status


def test_a_secret_is_for_this_user_only_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    monkeypatch.setattr(
        "ui.server.auth.os.fsync", lambda _: modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())
    )
    write_secret(tmp_path / "token", "a secret")
    (tmp_path / "token").chmod(0o644)
    write_secret(tmp_path / "token", "another secret")
    assert set(modes) == {0o600, 0o644}
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_job_that_could_not_be_created_completely_leaves_its_name_free(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("ui.server.actions.actions.write_notes", full)
        assert site.client.post("/api/jobs", json={"yaml": site.text()}).status_code == 409
    site.make()
