"""`job: extract` and `job: mod`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.drawing import write_lora
from tests.tiny import TINY, run_job
from toolkit.errors import JobError
from toolkit.lora.commands.merge import merge
from toolkit.lora.files import read_lora_file

BASE = TINY / "transformer"


def write(folder: Path, job: str, config: dict[str, Any]) -> Path:
    path = folder / f"{job}.yaml"
    path.write_text(yaml.safe_dump({"job": job, "config": {"name": "tool", **config}}))
    return path


def test_a_lora_is_extracted_from_the_model_that_it_was_merged_into(tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.safetensors", seed=1)
    merge([lora], BASE, tmp_path / "tuned", weights=[1.0])
    shared = {"base_model": str(BASE), "extract_model": str(tmp_path / "tuned"), "output_folder": str(tmp_path / "out")}
    processes = [
        {"type": "locon", "filename": "[name]_2.safetensors", "mode": "fixed", "linear": 2},
        {"type": "lora", "output_path": str(tmp_path / "energy.safetensors"), "mode": "energy", "linear": 0.99},
    ]
    assert run_job(write(tmp_path, "extract", {**shared, "process": processes})).status == "done"
    assert (tmp_path / "energy.safetensors").is_file()
    ours, found = (read_lora_file(path).updates for path in (lora, tmp_path / "out" / "tool" / "tool_2.safetensors"))
    for name, update in ours.items():
        error = (update.delta() - found[name].delta()).norm() / update.delta().norm()
        assert error < 0.02, name


def test_a_rescaled_lora_does_at_the_new_weight_what_it_did_at_the_old(tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.safetensors", seed=1)
    before = read_lora_file(lora).updates
    process = {"type": "rescale_lora", "input_path": str(lora), "output_path": str(lora), "current_weight": 3.0}
    job = {"process": [{**process, "target_weight": 2.0, "training_folder": str(tmp_path)}]}
    assert run_job(write(tmp_path, "mod", job)).status == "done"
    after = read_lora_file(lora).updates
    assert all(torch.allclose(1.5 * before[name].delta(), after[name].delta(), atol=1e-4) for name in before)
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(lora).values())


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"mode": "fixed", "linear": 0.5}, "is a rank"),
        ({"mode": "energy", "linear": 4}, "is a share"),
        ({"mode": "quantile", "linear": 4}, "is a share with `mode: quantile`"),
        ({"mode": "largest", "linear": 0.5}, "fixed"),
    ],
)
def test_a_goal_that_does_not_fit_its_mode_is_named(tmp_path: Path, process: dict[str, Any], message: str) -> None:
    entry = {"type": "lora", "base_model": str(BASE), "extract_model": str(BASE), **process}
    with pytest.raises(JobError, match=message):
        run_job(write(tmp_path, "extract", {"process": [entry]}))
