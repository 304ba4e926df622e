"""A server over folders of a test's own, and jobs whose runs are scripted."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from ui.server.app import create_app
from ui.server.options import Options

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "assets" / "flux2_tiny"
TOKEN = "a token for tests that is long enough"
SCRIPTED = (sys.executable, str(ROOT / "tests" / "ui" / "scripted_run.py"))
WAIT_S = 30.0


@dataclass
class Site:
    """A server and the folders that it works in."""

    app: FastAPI
    client: TestClient
    folder: Path

    @property
    def services(self) -> Any:
        return self.app.state.services

    def text(self, name: str = "job", script: dict[str, Any] | None = None, **sections: Any) -> str:
        return job_text(self.folder, name, script, **sections)

    def make(self, name: str = "job", script: dict[str, Any] | None = None, *, start: bool = False, **more: Any) -> str:
        answer = self.client.post("/api/jobs", json={"yaml": self.text(name, script, **more), "start": start})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def job(self, id_: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/jobs/{id_}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def act(self, id_: str, action: str, status: int = 200, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/jobs/{id_}/{action}", json=body)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def wait(self, id_: str, *states: str) -> dict[str, Any]:
        return wait_for(lambda: job if (job := self.job(id_))["state"] in states else None, lambda: self.job(id_))

    def output(self, name: str = "job") -> Path:
        return self.folder / "output" / name


def wait_for(look: Callable[[], Any], say: Callable[[], Any] = lambda: "", *, timeout_s: float = WAIT_S) -> Any:
    """What `look` gives, as soon as it gives something."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)  # a look is a request: 5 ms of a core
    raise AssertionError(f"nothing came within {timeout_s} s: {say()}")


def job_text(folder: Path, name: str, script: dict[str, Any] | None = None, **sections: Any) -> str:
    """A job that trains the tiny model on a few flat pictures; `sections` are merged in."""
    images = folder / "images"
    if not images.exists():
        images.mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (32, 32), (60 * index, 120, 128)).save(images / f"{index}.png")
            (images / f"{index}.txt").write_text(f"a picture of colour {index}", encoding="utf-8")
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": str(folder / "output"),
        "device": "cpu",
        "model": {"name_or_path": str(TINY), "arch": "flux2_tiny"},
        "network": {"type": "lora", "linear": 4},
        "datasets": [{"folder_path": str(images), "resolution": 32}],
        "train": {"steps": 6, "batch_size": 2, "lr": 1e-3, "dtype": "fp32"},
        "save": {"save_every": 3, "dtype": "fp32"},
        "sample": {
            "width": 32,
            "height": 32,
            "sample_steps": 2,
            "sample_every": 2,
            "samples": [{"prompt": "a red one"}, {"prompt": "a blue one"}],
        },
    }
    for key, value in sections.items():
        process[key] = {**process[key], **value} if isinstance(value, dict) and key in process else value
    job = {"job": "extension", "config": {"name": name, "process": [process]}, "meta": {"scripted": script or {}}}
    return str(yaml.safe_dump(job, sort_keys=False))


def options_for(folder: Path, **more: Any) -> Options:
    given: dict[str, Any] = {
        "store": folder / "store",
        "roots": (folder, TINY),  # and nothing of the repository that a test could change
        "token": TOKEN,
        "hosts": ("testserver",),
        "program": SCRIPTED,
        "poll_s": 0.05,
    }
    return Options(**(given | more))


@contextlib.contextmanager
def serving_site(folder: Path) -> Iterator[Site]:
    """A server whose runs are scripted; its threads live as long as the `with` block, and so do its jobs."""
    app = create_app(options_for(folder))
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield Site(app, client, folder)
        for job in app.state.services.registry.all():
            if job.is_live:
                client.post(f"/api/jobs/{job.id}/kill", json={})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server whose runs are scripted."""
    with serving_site(tmp_path) as site:
        yield site
