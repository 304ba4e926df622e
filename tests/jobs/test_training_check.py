"""jobs.process.training_check"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from jobs.job import Job
from jobs.process.checked import Checked
from tests.tiny import TINY, tiny_model, write_dataset, write_job
from toolkit.config import NetworkConfig, load_job
from toolkit.lora.update import Update
from toolkit.networks.targets import planned_targets
from toolkit.weights.tensor_files import write_tensors


def _check(folder: Path, **sections: Any) -> Checked:
    (checked,) = Job(load_job(write_job(folder, **sections))).checks()
    return checked


def _lora(path: Path, *, rank: int, only: str) -> Path:
    model = tiny_model()
    network = NetworkConfig.model_validate({"network_kwargs": {"only_if_contains": [only]}})
    targets = planned_targets(model, network) or []
    updates = {t.name: Update(torch.eye(rank, t.inputs), torch.eye(t.outputs, rank)) for t in targets}
    write_tensors(path, model.write_lora(updates, "bfl"))
    return path


def test_images_samples_model_files_and_network_are_judged_in_one_round(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    for name in ("vae", "text_encoder"):
        weights = next((model / name).glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1])
    images = write_dataset(tmp_path / "images")
    (images / "cut.png").write_bytes(next(images.glob("*.png")).read_bytes()[:60])
    (images / "other.gif").write_bytes(b"GIF89a")
    (tmp_path / "cut.png").write_bytes((images / "cut.png").read_bytes())
    checked = _check(
        tmp_path,
        model={"name_or_path": str(model)},
        network={
            "pretrained_lora_path": str(_lora(tmp_path / "start.safetensors", rank=8, only="linear1")),
            "network_kwargs": {"only_if_contains": ["linear2", "linear9"]},
        },
        train={"disable_sampling": False},
        sample={"sample_every": 3, "samples": [{"prompt": "x", "ctrl_img": str(tmp_path / "cut.png")}]},
    )
    told = [str(problem) for problem in checked.problems]
    for what in (
        str(images / "cut.png"),
        str(tmp_path / "cut.png"),
        f"{model / 'vae'}",
        f"{model / 'text_encoder'}",
        "network.pretrained_lora_path: ",
    ):
        assert any(line.startswith(what) for line in told), (what, told)
    start = [line for line in told if line.startswith("network.pretrained_lora_path")]
    assert len(start) == 2 and "To train the file's layers" in start[0] and "network.linear: 8" in start[1]
    for what in ("other.gif", "linear9"):
        assert any(what in notice for notice in checked.notices) and what in checked.refusal


def test_filters_that_leave_nothing_and_a_start_of_another_rank_are_reported_together(tmp_path: Path) -> None:
    start = _lora(tmp_path / "start.safetensors", rank=8, only="linear1")
    network = {"pretrained_lora_path": str(start), "network_kwargs": {"only_if_contains": ["linear9"]}}
    told = _check(tmp_path, network=network).refusal
    assert "the filters leave no layer" in told and "network.linear: 8" in told and "linear1" in told
