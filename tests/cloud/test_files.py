"""config/cloud: the files are what the tools that read them accept, and start a run as they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import ROOT, write_job

CLOUD = ROOT / "config" / "cloud"
DOCKERFILE = (CLOUD / "Dockerfile").read_text(encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLOUD / name).read_text(encoding="utf-8"))
    return content


def test_the_skypilot_task_has_the_schema_of_skypilot() -> None:
    reason = "needs the package skypilot, which is for this test only: pip install skypilot==0.14.1"
    schemas = pytest.importorskip("sky.utils.schemas", reason=reason)
    jsonschema = pytest.importorskip("jsonschema")
    task = read("skypilot.yaml")
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())
    for mount in task["file_mounts"].values():
        jsonschema.validate(mount, schemas.get_storage_schema())


@pytest.mark.parametrize("name", ["dstack.yml", "dstack_volume.yml"])
def test_the_dstack_files_are_what_dstack_reads(name: str) -> None:
    reason = "needs the package dstack, which is for this test only: pip install dstack==0.22.5"
    models = pytest.importorskip("dstack._internal.core.models.configurations", reason=reason)
    models.parse_apply_configuration(read(name))


@pytest.mark.parametrize("name", ["skypilot.yaml", "dstack.yml", "Dockerfile", "slurm.sh"])
def test_each_file_starts_the_run_through_the_same_script(name: str) -> None:
    assert "config/cloud/start.sh" in (CLOUD / name).read_text(encoding="utf-8")


def test_no_file_holds_a_secret() -> None:
    secret = re.compile(r"hf_\w{8}|(TOKEN|KEY|SECRET)\s*[=:]\s*[\"']?\w{8}")
    assert not [path.name for path in CLOUD.iterdir() if secret.search(path.read_text(encoding="utf-8"))]


@pytest.mark.slow  # a process
def test_the_script_starts_a_job_of_the_working_folder_in_one_process(tmp_path: Path) -> None:
    write_job(tmp_path, name="my_job")
    command = ["sh", str(CLOUD / "start.sh"), "my_job.yaml", "--check"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the settings of job my_job are valid" in done.stdout


def copied() -> dict[str, str]:
    """What the image holds, each with its path there."""
    return dict(re.findall(r"^COPY (\S+) (\S+)$", DOCKERFILE, re.MULTILINE))


def test_the_image_holds_all_that_a_run_reads() -> None:
    # what run.py imports, beyond the page, which an image does not serve
    assert set(copied()) == {
        "config", "extensions", "extensions_built_in", "jobs", "toolkit", "run.py", "requirements.txt"
    }  # fmt: skip
    sent = re.findall(r"^!(.+)$", (CLOUD / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(sent) == set(copied())


def test_the_run_in_the_image_is_not_root() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["trainer"]


@pytest.mark.torture  # installs everything anew
def test_the_steps_of_the_image_work(tmp_path: Path) -> None:
    """Where no Docker runs, its Python steps do, in a fresh environment."""
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode:
        subprocess.run(["docker", "build", "-f", str(CLOUD / "Dockerfile"), str(ROOT)], check=True)
        return
    trainer, job = tmp_path / "trainer", tmp_path / "job"
    trainer.mkdir()
    for name, target in copied().items():
        place = tmp_path / target.lstrip("/")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place)
        else:
            shutil.copy(ROOT / name, place)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    steps = DOCKERFILE.replace("/trainer/", f"{trainer}/")
    for step in re.findall(r"^RUN (pip .+)$", steps, re.MULTILINE):
        subprocess.run([tmp_path / "venv" / "bin" / "python", "-m", *step.split()], check=True)
    job.mkdir()
    write_job(job, train={"steps": 2})
    entrypoint = re.search(r'^ENTRYPOINT \["sh", "(.+)"\]$', steps, re.MULTILINE)
    assert entrypoint
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "caches")}
    subprocess.run(["sh", entrypoint[1], "job.yaml"], cwd=job, env=environment, check=True)
    assert (job / "output" / "job" / "job.safetensors").exists()
