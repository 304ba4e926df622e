"""jobs.process.training_check"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jobs.job import Job
from jobs.process.checked import Checked
from jobs.process.training_checked import TrainingChecked
from tests.tiny import TINY, run_job, tiny_model, write_dataset, write_job
from toolkit.config import NetworkConfig, load_job
from toolkit.errors import UserError
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


def test_room_and_resume_are_judged_in_the_same_round_as_images_and_files(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    assert run_job(job).status == "done"
    (tmp_path / "images" / "cut.png").write_bytes(b"")
    start = _lora(tmp_path / "start.safetensors", rank=8, only="linear1")
    changed: dict[str, Any] = {
        "network": {"pretrained_lora_path": str(start)},
        "train": {"steps": 10**9, "lr": 0.5},
        "save": {"save_every": 1, "max_step_saves_to_keep": 0, "max_states_to_keep": 0},
    }
    job = write_job(tmp_path, **changed)
    places = ("cut.png: ", "network.linear: 8", "train.lr")
    # a plan for another card does not ask about this machine's drives
    for vram_gb, room in ((0.01, "memory: the job needs"), (None, "for checkpoints, but its drive")):
        (checked,) = Job(load_job(job), vram_gb=vram_gb).checks()
        told = [str(problem) for problem in checked.problems]
        for what in (*places, room):
            assert any(what in line for line in told), (what, told)
        assert checked.refusal.count("\n  memory: ") == (vram_gb is not None)


def test_a_check_without_a_readable_image_says_that_memory_was_not_looked_at(tmp_path: Path) -> None:
    job = write_job(tmp_path, save={"save_every": 1}, train={"steps": 10**12})
    for path in (tmp_path / "images").glob("*.png"):
        path.write_bytes(b"")
    (checked,) = Job(load_job(job)).checks()
    assert "memory was not checked" in checked.refusal
    assert "0.png: cannot be read" in checked.refusal
    assert isinstance(checked, TrainingChecked) and checked.disk.sizes["checkpoints"] > 0


def test_lists_of_layers_that_are_unknown_count_as_none(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"nothing")
    network = {"linear": 4, "pretrained_lora_path": str(start)}
    checked = _check(tmp_path, network=network, save={"save_every": 1}, train={"steps": 10**9})
    assert [problem.where for problem in checked.problems] == [str(start)]


def test_every_process_of_a_job_is_checked(tmp_path: Path) -> None:
    path = write_job(tmp_path)
    tree = yaml.safe_load(path.read_text())
    (process,) = tree["config"]["process"]
    bad = {**process, "network": {"type": "lora", "linear": 4, "network_kwargs": {"only_if_contains": ["linear9"]}}}
    tree["config"]["process"] = [bad, {**bad, "training_folder": str(tmp_path / "other")}]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError) as caught:
        Job(load_job(path)).check()
    assert str(caught.value).count("the filters leave no layer") == 2
