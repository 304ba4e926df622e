"""The proof of few steps: what it measures, and when there is nothing to prove."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.flux2_tiny.adapters.mean_flow_proof import MeanFlowProof, distance, draw_latents, main, report
from scripts.flux2_tiny.draw import load_pipeline
from scripts.flux2_tiny.proof import TINY_MODEL


def test_the_distance_is_relative_to_the_size_of_the_teachers_latents() -> None:
    teacher = torch.full((2, 4, 8), 2.0)
    assert distance(teacher, teacher) == 0
    assert distance(teacher + 1, teacher) == pytest.approx(0.5)


@pytest.mark.parametrize(("trained", "passed"), [(0.24, True), (0.27, False)])
def test_it_takes_a_fifth_less_distance_to_pass(trained: float, passed: bool) -> None:
    proof = MeanFlowProof(num_prompts=48, num_steps=2, base=0.30, trained=trained)
    assert proof.passed == passed
    assert report(proof).endswith("PASS" if passed else "FAIL")


def test_latents_are_normalised_and_depend_on_prompt_and_seed_alone() -> None:
    """Two seconds: three pictures in one step."""
    pipeline = load_pipeline(TINY_MODEL)
    both = draw_latents(pipeline, ["a red circle", "a blue ring"], num_steps=1, guidance_scale=1.0, seed=1)
    alone = draw_latents(pipeline, ["a blue ring"], num_steps=1, guidance_scale=1.0, seed=2)
    assert both.shape == (2, 64, 64)
    assert 0.3 < float(both.std()) < 1.5
    assert torch.allclose(both[1:], alone, atol=1e-3)


def test_without_files_there_is_nothing_to_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "not found. Train it" in capsys.readouterr().err
