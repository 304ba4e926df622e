"""run_modal.py: what it rents, and the body of its function, run here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.cloud.parcel import Parcel, RemoteFolders, pack
from tests.tiny import ROOT, losses, write_job
from toolkit.config import load_job
from toolkit.output.run_record import read_runs

modal = pytest.importorskip("modal", reason="needs the package modal: pip install -r requirements-modal.txt")
run_modal = pytest.importorskip("run_modal")


def sent(job_file: Path, folder: Path) -> Parcel:
    """The parcel of a job whose cargo has arrived in `folder`, as it does on a volume."""
    place = RemoteFolders(*(str(folder / name) for name in ("data", "output", "caches")))
    parcel = pack(load_job(job_file), place)
    for item in parcel.cargo:
        for name, path in item.files.items():
            target = Path(place.data, item.target, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return parcel


def start(parcel: Parcel, **rent: Any) -> int:
    function = run_modal.Rent("H100", **rent).function()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The train function is executing locally", UserWarning)
        code: int = function.local(parcel.text, ["job"], 1, 1)
    return code


@contextmanager
def preempted_at_step(folder: Path, step: int) -> Iterator[None]:
    """Let Modal's simulated preemption strike when the run in `folder` has taken a step."""

    def watch() -> None:
        while not (folder / "events.jsonl").exists() or step not in losses(folder):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGALRM)  # the alarm, at a moment of our choice

    before = signal.getsignal(signal.SIGALRM)
    modal.exception.simulate_preemption(3600)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_preempted_run_whose_files_are_elsewhere_is_continued_by_the_same_start(tmp_path: Path) -> None:
    steps = 30
    train = {"steps": steps, "batch_size": 1}
    job_file = write_job(tmp_path / "here", train=train, save={"save_every": 0}, logging={"log_every": 1})
    parcel, output = sent(job_file, tmp_path / "there"), tmp_path / "there" / "output" / "job"
    shutil.rmtree(tmp_path / "here")
    with preempted_at_step(output, 2), pytest.raises(KeyboardInterrupt):
        start(parcel)
    first = read_runs(output)[-1]
    assert first.status == "interrupted"
    assert 2 <= first.end["step"] < steps
    assert start(parcel) == 0
    second = read_runs(output)[-1]
    assert second.resumed["step"] == first.end["step"]
    assert sorted(losses(output)) == list(range(1, steps + 1))
    assert (output / "job.safetensors").exists()


@pytest.mark.torture  # starts of run.py
def test_a_start_too_many_finds_the_run_done(tmp_path: Path) -> None:
    parcel, output = sent(write_job(tmp_path, train={"steps": 5}), tmp_path / "there"), tmp_path / "there/output/job"
    assert [start(parcel), start(parcel)] == [0, 0]
    assert len(read_runs(output)) == 2
    assert len(losses(output)) == 5


@pytest.mark.torture  # a start of run.py
def test_a_job_that_cannot_work_is_not_started_again(tmp_path: Path) -> None:
    parcel = sent(write_job(tmp_path), tmp_path / "there")
    shutil.rmtree(tmp_path / "there" / "data")
    assert start(parcel) == 2  # Modal repeats what raises, and this does not


def spec(**rent: Any) -> Any:
    """What Modal would be asked for."""
    function = run_modal.Rent("H100", **rent).function()
    return function._spec_ if hasattr(function, "_spec_") else function._spec


def test_it_rents_the_cards_with_three_volumes() -> None:
    rented = spec(num_gpus=2, ram_mib=30_000)
    assert (rented.gpus, rented.memory) == ("H100:2", 30_000)
    assert set(rented.volumes) == {"/data", "/output", "/caches"}


def test_secrets_are_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notarealtoken")
    gated = {"arch": "flux2", "name_or_path": "black-forest-labs/FLUX.2-dev"}
    code = run_modal.main([str(write_job(tmp_path, model=gated, train={"dtype": "bf16"})), "--check"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "hf_notarealtoken" not in said.out + said.err
    assert str(spec(secrets=["huggingface"], variables=["HF_TOKEN"]).secrets).count("huggingface") == 1


def test_a_secret_of_the_job_needs_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", "do-not-tell-anyone")
    job_file = write_job(tmp_path)
    job_file.write_text(job_file.read_text() + "meta: {service: '${MY_API_KEY}'}\n")
    assert run_modal.main([str(job_file), "--check"]) == 2
    said = capsys.readouterr()
    assert "the run needs MY_API_KEY" in said.err
    assert "do-not-tell-anyone" not in said.out + said.err


def test_the_image_holds_the_code_and_nothing_of_the_user() -> None:
    left_out = (".git/config", ".env", "my_images/1.jpg", "output/job/job.safetensors", "docs/cloud.md", "my_job.yaml")
    assert all(run_modal._is_left_out(Path(path)) for path in left_out)
    assert not any(run_modal._is_left_out(Path(path)) for path in ("run.py", "toolkit/files.py", "jobs/cloud/gpus.py"))


def test_without_an_account_the_job_is_checked_and_it_says_how_to_make_one(tmp_path: Path) -> None:
    """run_modal.py as a new user would start it."""
    environment = {**os.environ, "HOME": str(tmp_path), "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml")}
    command = [sys.executable, str(ROOT / "run_modal.py"), str(write_job(tmp_path)), "--gpu", "L40S"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "a card of 48 GB" in done.stdout
    assert f"upload: {tmp_path / 'images'} (8 files" in done.stdout
    assert "-> /output/job" in done.stdout
    assert "modal setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_with_a_mistake_is_not_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_modal.main([str(write_job(tmp_path, train={"lrr": 1}))]) == 2
    assert "Did you mean `lr`?" in capsys.readouterr().err


def test_an_unknown_card_is_named_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_modal.main([str(write_job(tmp_path)), "--gpu", "H1000"]) == 2
    assert 'no card "H1000". Known: L4,' in capsys.readouterr().err


def test_without_the_package_it_says_how_to_install_it() -> None:
    hidden = "import sys, runpy; sys.modules['modal'] = None; runpy.run_path('run_modal.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.rstrip().endswith("-m pip install -r requirements-modal.txt")
