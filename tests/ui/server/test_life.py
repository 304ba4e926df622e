"""Servers as processes: started by their arguments, killed at any moment, and true again two seconds after."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.reliability.scale import count
from tests.ui.server.conftest import ROOT, SCRIPTED, TOKEN, job_text, options_for, wait_for
from toolkit.output.run_record import read_runs
from ui.server.app import create_app
from ui.server.jobs.launch import read_launch
from ui.server.main import main
from ui.server.store import Entry, Store

KILLS = count(4, long=100)  # one of each kind, and one more
TRUTH_S = 2.0


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments

    def start(self) -> None:
        environment = os.environ | {"FLUX2_TRAINER_TEST_PROGRAM": SCRIPTED[1]}
        store = str(self.folder / "store")
        command = [sys.executable, "-m", "ui.server.main", "--port", "0", "--no-browser", "--store", store]
        command += ["--root", str(self.folder), *self.arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = re.search(r"(http://\S+)/#token=(\S+)", self.process.stdout.readline())
        assert address is not None
        self.url, self.token = address[1], address[2]
        wait_for(self._answers)
        self.since = time.monotonic()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
            return bool(json.loads(answer.read())["ok"])
        return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def wait(self, id_: str, state: str) -> None:
        wait_for(lambda: self.ask("GET", f"/api/jobs/{id_}")[1]["state"] == state)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    server = Server(folder, *arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def test_a_server_killed_again_and_again_shows_true_states_and_starts_nothing_twice(tmp_path: Path) -> None:
    """Takes two seconds for each kill: a server is started anew each time."""
    chance = random.Random(13)
    server = Server(tmp_path)
    server.start()
    expected: dict[str, str] = {}
    for number in range(KILLS):
        name = f"job_{number}"
        text = job_text(tmp_path, name, {"step_s": 0.05}, train={"steps": 2000, "disable_sampling": True})
        status, made = server.ask("POST", "/api/jobs", {"yaml": text, "start": True})
        assert status == 200, made
        id_ = made["id"]
        act = number % 3
        if act:  # kill while it stops, or while it is deleted
            server.wait(id_, "training")
            server.ask("POST", f"/api/jobs/{id_}/stop", {})
        if act == 2:
            server.wait(id_, "interrupted")
            with contextlib.suppress(OSError):
                server.ask("DELETE", f"/api/jobs/{id_}")
        else:
            time.sleep(chance.random() * 0.5)
        server.kill()
        server.start()
        job = _true_state(server, id_, tmp_path / "output" / name, act)
        expected[id_] = job
        if job not in ("gone",):
            _stop(server, id_)
        runs = read_runs(tmp_path / "output" / name)
        assert len(runs) <= 1, f"{name} was started {len(runs)} times"
    with contextlib.closing(sqlite3.connect(tmp_path / "store" / "index.sqlite")) as index:
        assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    server.kill()
    assert not _orphans(tmp_path)


def _true_state(server: Server, id_: str, folder: Path, act: int) -> str:
    """The state within two seconds of the restart; it must be one that the folder and its process bear out."""
    allowed = {
        0: ("queued", "checking", "starting", "loading", "encoding", "training"),
        1: ("stopping", "interrupted", "training", "loading"),
        2: ("gone", "interrupted"),
    }[act]

    def look() -> str | None:
        status, job = server.ask("GET", f"/api/jobs/{id_}")
        state = "gone" if status == 404 else str(job["state"])
        return state if state in allowed and (state == "gone") == (not folder.exists()) else None

    found = wait_for(look, lambda: server.ask("GET", f"/api/jobs/{id_}"), timeout_s=TRUTH_S)
    assert isinstance(found, str)
    return found


def _stop(server: Server, id_: str) -> None:
    """Let a job end, from whatever state it is in."""

    def ended() -> bool:
        _, job = server.ask("GET", f"/api/jobs/{id_}")
        if job["state"] in ("training", "queued"):
            server.ask("POST", f"/api/jobs/{id_}/stop", {})
        return job["state"] in ("interrupted", "stopped", "draft", "done", "killed")

    wait_for(ended, lambda: server.ask("GET", f"/api/jobs/{id_}"))


def _orphans(folder: Path) -> list[str]:
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(folder) in command and "scripted_run" in command:
            found.append(command)
    return found


def test_jobs_outlive_a_killed_server_and_dead_ones_are_shown_as_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        slow = {"step_s": 0.05}
        ids = {}
        for name in ("lives", "dies"):
            text = job_text(tmp_path, name, slow, train={"steps": 2000, "disable_sampling": True})
            ids[name] = server.ask("POST", "/api/jobs", {"yaml": text, "start": name == "lives"})[1]["id"]
        wait_for(lambda: server.ask("GET", f"/api/jobs/{ids['lives']}")[1]["state"] == "training")
        server.kill()
        external = subprocess.Popen(
            [*SCRIPTED, str(tmp_path / "output" / "dies" / "job.yaml")], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        wait_for(lambda: (tmp_path / "output" / "dies" / "runs.jsonl").exists())
        external.kill()
        external.wait()
        server.start()
        states = {name: server.ask("GET", f"/api/jobs/{id_}")[1]["state"] for name, id_ in ids.items()}
        assert states == {"lives": "training", "dies": "killed"}
        assert server.ask("POST", f"/api/jobs/{ids['lives']}/stop", {})[0] == 200
        wait_for(lambda: server.ask("GET", f"/api/jobs/{ids['lives']}")[1]["state"] == "interrupted")


def test_a_start_that_ended_while_no_server_ran_is_refused_only_if_it_says_so(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        ids = {}
        for name, script in (("dies", {"check_s": 60}), ("refuses", {"check_s": 1, "refuse": "no"})):
            text = job_text(tmp_path, name, script)
            ids[name] = server.ask("POST", "/api/jobs", {"yaml": text, "start": True})[1]["id"]
            server.wait(ids[name], "checking")
            server.kill()
            launch = read_launch(tmp_path / "output" / name)
            assert launch is not None and launch.process is not None
            process = launch.process
            if name == "dies":
                os.kill(process.pid, signal.SIGKILL)
            while process.is_alive():
                time.sleep(0.05)
            server.start()
        found = {name: server.ask("GET", f"/api/jobs/{id_}")[1] for name, id_ in ids.items()}
        assert {name: job["state"] for name, job in found.items()} == {"dies": "killed", "refuses": "refused"}
        assert "Ended unexpectedly during startup" in found["dies"]["reason"]


def test_a_page_is_told_of_a_new_job_and_of_its_steps_as_they_are_made(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        request = urllib.request.Request(
            f"{server.url}/api/events", headers={"Authorization": f"Bearer {server.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            _until(stream, '"kind":"reset"')
            text = job_text(tmp_path, "told", {"step_s": 0.05}, train={"steps": 60, "disable_sampling": True})
            server.ask("POST", "/api/jobs", {"yaml": text, "start": True})
            _until(stream, '"name":"told"')
            delays: list[float] = []
            while len(delays) < 20:
                message = json.loads(_message(stream))
                now = time.time()
                for event in message.get("events") or ():
                    if event["kind"] == "step":
                        delays.append(max(0.0, now - event["time"]))
            assert sorted(delays)[-2] < 5.0, "messages wait for something, such as the keep-alive"


def _until(stream: Any, text: str) -> None:
    """Read messages until one has this text; others, such as of the machine, come in between."""
    while text not in _message(stream):
        pass


def _message(stream: Any) -> str:
    """The next message of a stream."""
    while True:
        line = stream.readline().decode()
        assert line, "the stream has ended"
        if line.startswith("data: "):
            return str(line.removeprefix("data: "))


def test_the_order_of_the_queue_outlives_the_server_and_its_jobs_a_reindexing(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.url.startswith("http://127.0.0.1:")
        server.ask("PUT", "/api/queue", {"order": {}, "is_paused": True})
        for name in ("a", "b", "c"):
            server.ask("POST", "/api/jobs", {"yaml": job_text(tmp_path, name), "start": True})
        ids = server.ask("GET", "/api/queue")[1]["order"]["cpu"]
        server.ask("PUT", "/api/queue", {"order": {"cpu": ids[::-1]}})
        server.kill()
        server.start()
        queue = server.ask("GET", "/api/queue")[1]
        assert queue == {"order": {"cpu": ids[::-1]}, "is_paused": True}
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
    with serving(tmp_path, "--reindex") as server:
        assert [server.ask("GET", f"/api/jobs/{id_}")[1]["state"] for id_ in ids] == ["draft"] * 3


def test_a_port_in_use_is_reported_in_plain_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = main(["--port", port, "--no-browser", "--store", str(tmp_path)])
    assert (code, f"Port {port} is in use" in capsys.readouterr().err) == (2, True)


def test_a_damaged_index_is_put_aside_and_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    for content in (b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096):
        path.write_bytes(content)
        store = Store(path)
        store.open()
        store.put(Entry("a", tmp_path, "queued"))
        assert store.entries()["a"].place == "queued"
        store.close()
        path.unlink()
    assert len(list(tmp_path.glob("index-damaged-*"))) == 2


def test_the_page_answers_while_the_jobs_are_still_being_read(tmp_path: Path) -> None:
    app = create_app(options_for(tmp_path))
    registry, may_read = app.state.services.registry, threading.Event()
    find = registry._find
    registry._find = lambda: may_read.wait(30) and find()
    with ThreadPoolExecutor() as pool, TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        jobs = pool.submit(client.get, "/api/jobs")
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200
        assert not jobs.done()  # what it says must be true: it waits until every job has been looked at
        may_read.set()
        assert jobs.result(timeout=30).json()["jobs"] == []
