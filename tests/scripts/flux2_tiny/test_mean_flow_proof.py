"""The proof of few steps: what it measures, and what it draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scripts.flux2_tiny.adapter_proof import main
from scripts.flux2_tiny.adapters import mean_flow_proof
from scripts.flux2_tiny.adapters.mean_flow_proof import MeanFlowProof, distance, draw
from scripts.flux2_tiny.draw import load_pipeline
from scripts.flux2_tiny.proof import TINY_MODEL
from tests.tiny import run_job, write_job


def test_the_distance_is_relative_to_the_size_of_the_teachers_latents() -> None:
    teacher = torch.full((2, 4, 8), 2.0)
    assert distance(teacher, teacher) == 0
    assert distance(teacher + 1, teacher) == pytest.approx(0.5)


@pytest.mark.parametrize(("trained", "passed"), [(0.24, True), (0.27, False)])
def test_it_takes_a_fifth_less_distance_to_pass(trained: float, passed: bool) -> None:
    proof = MeanFlowProof(num_prompts=48, num_steps=2, base=0.30, trained=trained)
    assert proof.passed == passed
    assert proof.report().endswith("PASS" if passed else "FAIL")


def test_latents_are_normalised_and_depend_on_prompt_and_seed_alone() -> None:
    """Two seconds: three pictures in one step."""
    pipeline = load_pipeline(TINY_MODEL)
    both = draw(pipeline, ["a red circle", "a blue ring"], num_steps=1, guidance_scale=1.0, seed=1)
    alone = draw(pipeline, ["a blue ring"], num_steps=1, guidance_scale=1.0, seed=2)
    assert both.latents.shape == (2, 64, 64)
    assert 0.3 < float(both.latents.std()) < 1.5
    assert torch.allclose(both.latents[1:], alone.latents, atol=1e-3)
    assert [picture.shape for picture in both.pictures] == 2 * [(128, 128, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "num_steps"),
    [({"train": {"objective_params": {"steps": 3, "teacher_steps": 1}}}, 3), ({"adapter": {"type": "mean_flow"}}, 2)],
    ids=["fixed", "any step"],
)
def test_the_folder_of_a_job_for_few_steps_is_proved_with_the_number_of_steps_that_it_learned(
    sections: dict[str, Any],
    num_steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Six seconds each: a step and twelve pictures."""
    monkeypatch.setattr(mean_flow_proof, "NUM_TEACHER_STEPS", 4)
    train = {"objective": "mean_flow", "steps": 1, **sections.pop("train", {})}
    job, folder = write_job(tmp_path, train=train, **sections), tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    assert main([str(folder), "--pictures", "4"]) == 1, "a step taught it nothing"
    assert f"4 held-out prompts, {num_steps} steps" in capsys.readouterr().out
    figures = json.loads((folder / "adapter_proof.json").read_text(encoding="utf-8"))
    assert 0.9 < figures["trained"] / figures["base"] < 1.1
    with Image.open(folder / "samples" / "adapter_proof.jpg") as shown:
        assert shown.height > 3 * 128
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert main([str(folder)]) == 2
    assert "not found. Let the job run to its end first" in capsys.readouterr().err
