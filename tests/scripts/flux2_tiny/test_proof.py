"""The proof draws, judges and decides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2
from PIL import Image
from safetensors.torch import save_file

from scripts.flux2_tiny.assemble import make_transformer, save_pipeline
from scripts.flux2_tiny.grid import picture_grid
from scripts.flux2_tiny.proof import Proof, main, report
from scripts.flux2_tiny.text import make_text_encoder, make_tokenizer
from scripts.flux2_tiny.vae import CONFIG


@pytest.mark.parametrize(
    ("shares", "passed"),
    [
        ((0.00, 0.90, 0.95, 0.93), True),
        ((0.05, 0.80, 1.00, 0.80), True),
        ((0.06, 0.90, 0.95, 0.95), False),
        ((0.00, 0.79, 0.95, 0.95), False),
        ((0.00, 0.90, 0.95, 0.75), False),
    ],
)
def test_a_proof_passes_when_the_emblem_is_learned_and_little_is_lost(
    shares: tuple[float, float, float, float], passed: bool
) -> None:
    proof = Proof(100, *shares)
    assert proof.passed is passed
    assert report(proof).endswith("PASS" if passed else "FAIL")


def test_the_grid_has_a_row_for_each_label_and_room_for_captions() -> None:
    picture = np.zeros((128, 128, 3), dtype=np.uint8)
    grid = picture_grid([("before", ["a red circle", "a ring"], [picture] * 2), ("after", [], [picture] * 2)])
    assert grid.width > 2 * 128
    assert grid.height > 2 * 128 + 30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model whose output does depend on its blocks."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tokenizer, transformer = make_tokenizer(), make_transformer()
    for name, parameter in transformer.named_parameters():
        if "proj_out" in name or "modulation" in name:  # which start at zero, where no LoRA would show
            torch.nn.init.normal_(parameter, std=0.1)
    save_pipeline(
        folder,
        vae=AutoencoderKLFlux2(**CONFIG),
        text_encoder=make_text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("scripts.flux2_tiny.draw.NUM_STEPS", 2)
    folder = tmp_path / "demo"
    folder.mkdir()
    return folder


def test_a_lora_that_learned_nothing_fails_with_figures_and_pictures(
    run: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = "diffusion_model.single_blocks.0.linear2"  # 192 attention and 576 feed-forward channels to 192
    weights = {f"{layer}.lora_A.weight": torch.randn(4, 768), f"{layer}.lora_B.weight": torch.randn(192, 4)}
    save_file(weights, run / "demo.safetensors", metadata={"format": "pt"})
    assert main([str(run), "--model", str(model), "--prompts", "2"]) == 1
    figures = json.loads((run / "proof.json").read_text(encoding="utf-8"))
    assert figures["num_prompts"] == 2
    assert figures["emblem_after"] == 0
    assert figures["passed"] is False
    with Image.open(run / "samples" / "proof.jpg") as shown:
        assert shown.height > 4 * 128
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    for file in ("demo.safetensors", "grid.jpg", "proof.jpg", "events.jsonl"):
        assert file in printed


def test_a_lora_whose_keys_fit_nothing_is_refused(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(
        {"foreign.lora_A.weight": torch.ones(4, 8), "foreign.lora_B.weight": torch.ones(8, 4)}, run / "demo.safetensors"
    )
    assert main([str(run), "--model", str(model), "--prompts", "1"]) == 2
    assert "no image changed" in capsys.readouterr().err
    assert not (run / "proof.json").exists()


def test_a_missing_lora_or_model_is_named(run: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--model", str(model)]) == 2
    assert "demo.safetensors" in capsys.readouterr().err
    (run / "demo.safetensors").write_bytes(b"")
    assert main([str(run), "--model", str(run)]) == 2
    assert "model_index" not in capsys.readouterr().out
