"""The proof of the adapters' examples passes only an adapter that looks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.flux2_tiny.adapter_data import held_out_examples
from scripts.flux2_tiny.adapter_proof import AdapterProof, main, others
from scripts.flux2_tiny.adapters.tasks import TASKS, Score, all_is_right, color_is_right, overlap_with_shape
from scripts.flux2_tiny.vision import write_vision_encoder
from tests.tiny import run_job, write_job


@pytest.mark.parametrize(
    ("scores", "passed"),
    [
        ((0.60, 0.20, 0.20), True),
        ((0.59, 0.00, 0.00), False),
        ((0.90, 0.21, 0.00), False),
        ((0.90, 0.00, 0.21), False),
        ((0.90, 0.00, None), True),
    ],
)
def test_a_proof_passes_when_the_right_input_helps_and_no_other_does(
    scores: tuple[float, float, float | None], passed: bool
) -> None:
    proof = AdapterProof("ip", 48, *scores)
    assert proof.passed is passed
    assert proof.report().endswith("PASS" if passed else "FAIL")


@pytest.mark.parametrize(
    ("toy", "score"), [("color", color_is_right), ("edges", overlap_with_shape), ("scenes", all_is_right)]
)
def test_the_true_images_score_high_and_those_of_others_low(toy: str, score: Score) -> None:
    examples = held_out_examples(toy, 24, seed=2)
    own = np.mean([score(np.asarray(one.picture), one) for one in examples])
    wrong = np.mean(
        [score(np.asarray(examples[other].picture), one) for one, other in zip(examples, others(examples), strict=True)]
    )
    assert own >= 0.95
    assert wrong <= 0.1


def test_a_wrong_input_has_another_color_and_place() -> None:
    examples = held_out_examples("color", 48, seed=5000)
    for one, other in zip(examples, others(examples), strict=True):
        assert one.scene.color != examples[other].scene.color
        assert one.scene.place != examples[other].scene.place


def test_every_task_asks_more_of_the_right_input_than_of_others() -> None:
    assert all(task.least >= 2 * task.most for task in TASKS.values())


def test_a_folder_without_a_job_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "not the output folder of a job" in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_that_learned_nothing_fails_with_figures_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.flux2_tiny.adapters.trained_job.NUM_STEPS", 2)
    encoder = write_vision_encoder(tmp_path / "encoder")
    job = write_job(
        tmp_path,
        network=None,
        adapter={"type": "redux", "image_encoder_path": str(encoder)},
        datasets=[{"folder_path": str(tmp_path / "images"), "clip_image_from_same_folder": True, "resolution": 32}],
        train={"steps": 1},
    )
    folder = tmp_path / "output" / "job"
    assert run_job(job).status == "done"
    assert main([str(folder), "--pictures", "3"]) == 1
    assert "FAIL" in capsys.readouterr().out
    figures = json.loads((folder / "adapter_proof.json").read_text(encoding="utf-8"))
    assert figures["type"] == "redux" and figures["num_pictures"] == 3 and figures["passed"] is False
    with Image.open(folder / "samples" / "adapter_proof.jpg") as shown:
        assert shown.height > 5 * 128
    (folder / "job.safetensors").unlink()
    assert main([str(folder)]) == 2
    assert "job.safetensors: not found" in capsys.readouterr().err


@pytest.mark.slow
def test_a_job_without_an_adapter_has_nothing_to_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(write_job(tmp_path, train={"steps": 1})).status == "done"
    assert main([str(tmp_path / "output" / "job")]) == 2
    assert "trains no adapter" in capsys.readouterr().err
