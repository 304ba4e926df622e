"""The proof of the edit demo draws, judges and decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from scripts.flux2_tiny.edit_proof import EditProof, main, report
from tests.tiny import TINY


@pytest.mark.parametrize(
    ("shares", "passed"),
    [
        ((0.00, 0.90, 0.00), True),
        ((0.05, 0.60, 0.10), True),
        ((0.06, 0.90, 0.00), False),
        ((0.00, 0.59, 0.00), False),
        ((0.00, 0.90, 0.11), False),
    ],
)
def test_a_proof_passes_when_the_edit_is_learned_and_needs_its_reference(
    shares: tuple[float, float, float], passed: bool
) -> None:
    proof = EditProof(100, *shares)
    assert proof.passed is passed
    assert report(proof).endswith("PASS" if passed else "FAIL")


def test_a_lora_that_learned_nothing_fails_with_figures_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.flux2_tiny.draw.NUM_STEPS", 2)
    run = tmp_path / "edit"
    run.mkdir()
    assert main([str(run)]) == 2
    assert "edit.safetensors: no LoRA found" in capsys.readouterr().err
    layer = "diffusion_model.single_blocks.0.linear2"
    weights = {f"{layer}.lora_A.weight": torch.randn(4, 768), f"{layer}.lora_B.weight": torch.randn(192, 4)}
    save_file(weights, run / "edit.safetensors", metadata={"format": "pt"})
    assert main([str(run), "--model", str(TINY), "--pictures", "2"]) == 1
    figures = json.loads((run / "edit_proof.json").read_text(encoding="utf-8"))
    assert figures["num_pictures"] == 2 and figures["passed"] is False
    with Image.open(run / "samples" / "edit_proof.jpg") as shown:
        assert shown.height > 5 * 128
    assert "FAIL" in capsys.readouterr().out
