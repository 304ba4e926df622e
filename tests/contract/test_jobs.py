"""Whole jobs, stopped and resumed: a LoRA of every model, and a full fine-tune of one of each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.job import Job
from tests.tiers import IS_TORTURE
from tests.tiny import run_job, write_job
from toolkit.config import load_job
from toolkit.weights.tensor_files import read_tensors

pytestmark = pytest.mark.usefixtures("short_texts")

LORA: dict[str, Any] = {"network": {"type": "lora", "linear": 2}}
FULL: dict[str, Any] = {"network": None}


def _write(folder: Path, section: dict[str, Any], kind: dict[str, Any], *, steps: int) -> Path:
    settings = {"steps": steps, "batch_size": 1, "disable_sampling": False, "skip_first_sample": True}
    if kind is FULL:
        settings["full_finetune"] = True
    prompts = {"prompts": ["a red circle"], "sample_every": 0}
    return write_job(folder, model=section, train=settings, save={"save_every": 2}, sample=prompts, **kind)


def _run(path: Path, *, from_step: int | None = None) -> Path:
    assert run_job(path, from_step=from_step).status == "done"
    return path.parent / "output" / "job" / "job.safetensors"


@pytest.mark.parametrize("kind", [LORA, FULL], ids=["lora", "full"])
def test_a_job_draws_its_samples_and_ends_the_same_when_it_is_resumed(
    model_section: dict[str, Any], is_first_of_family: bool, kind: dict[str, Any], tmp_path: Path
) -> None:
    if kind is FULL and not (is_first_of_family or IS_TORTURE):
        pytest.skip("`make torture` runs it")
    path = _write(tmp_path, model_section, kind, steps=4)
    file = _run(path)
    unbroken = {name: tensor.clone() for name, tensor in read_tensors(file).items()}
    (sample,) = (file.parent / "samples").glob("*__000000004_0.jpg")
    with Image.open(sample) as image:
        assert image.size == (32, 32)
    resumed = read_tensors(_run(path, from_step=2))
    assert sorted((file.parent / "superseded").rglob(file.name)), "what was there was made anew"
    assert unbroken.keys() == resumed.keys()
    assert all((unbroken[name] == resumed[name]).all() for name in unbroken)


def test_the_check_of_a_job_names_the_model(model_section: dict[str, Any], tmp_path: Path) -> None:
    job = Job(load_job(_write(tmp_path, model_section, LORA, steps=1)))
    assert any("steps" in line for line in job.check())
