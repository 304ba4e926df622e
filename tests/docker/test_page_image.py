"""config/docker: the image holds what the page needs, and its script serves the page and lets running jobs save."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml

from tests.ui.server.conftest import ROOT

FOLDER = ROOT / "config" / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (open(sys.argv[1] + ".saved", "w").close(), sys.exit(130)))
open(sys.argv[1] + ".ready", "w").close()
time.sleep(60)
"""


def copied() -> list[str]:
    return re.findall(r"^COPY (\S+) \S+$", DOCKERFILE, re.MULTILINE)


def test_what_is_copied_is_sent_and_the_user_is_not_root() -> None:
    sent = re.findall(r"^!(.+)$", (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(sent) == set(copied())
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["trainer"]


def test_compose_mounts_each_volume_of_the_image_and_opens_the_port_to_this_machine_only() -> None:
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["trainer"]
    volumes = re.search(r"^VOLUME \[(.+)\]$", DOCKERFILE, re.MULTILINE)
    assert volumes is not None
    assert {mount.split(":")[1] for mount in service["volumes"]} == set(re.findall(r'"([^"]+)"', volumes[1]))
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]


def test_the_script_serves_the_page_from_what_the_image_holds_and_stops_jobs_by_saving(tmp_path: Path) -> None:
    """Four seconds: the server as a process."""
    trainer = tmp_path / "trainer"
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, trainer / name, ignore=ignored)
        else:
            trainer.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, trainer)
    environment = {**os.environ, "PYTHON": sys.executable, "FLUX2_TRAINER_HOME": str(tmp_path / "store")}
    command = ["sh", str(trainer / "config" / "docker" / "start.sh"), "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as page:
        assert page.stdout is not None
        address = re.search(r"(http://\S+)/#token=(\S{32,})", page.stdout.readline())
        assert address is not None
        (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")
        work = [sys.executable, "run.py", f"{tmp_path}/job.yaml"]
        job = subprocess.Popen(work, cwd=tmp_path, env=environment, start_new_session=True)
        try:
            answers = [ask(f"{address[1]}{path}", address[2]) for path in ("/", "/api/form", "/api/models")]
            assert all(answers)
            wait_for(tmp_path / "job.yaml.ready")
        finally:
            page.send_signal(signal.SIGTERM)
            assert job.wait(timeout=20) == 130
        assert page.wait(timeout=20) == 0
    assert (tmp_path / "job.yaml.saved").exists()


def ask(url: str, token: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return len(answer.read())
        except ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} does not come")
