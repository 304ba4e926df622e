"""The demo, in short: the tiny model learns an emblem that it has never seen, and forgets little."""

from pathlib import Path

import pytest
import torch

from scripts.flux2_tiny import draw
from scripts.flux2_tiny.measure import measure_model
from scripts.flux2_tiny.proof import prove
from tests.tiny import ROOT, TINY, run_job
from toolkit.runtime.devices import product_dtype

EXAMPLE = ROOT / "config" / "examples" / "train_lora_flux2_tiny.yaml"


@pytest.mark.torture  # the short demo draws ordinary prompts before it has learned, fewer of them
def test_the_tiny_model_draws_what_its_prompts_say() -> None:
    shares = measure_model(TINY, num_prompts=24)
    assert shares["right"] >= 0.85


def test_the_tiny_model_is_small() -> None:
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) <= 25_000_000


def test_a_twelfth_of_the_demo_already_teaches_the_emblem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = product_dtype(torch.device("cpu"), torch.bfloat16)  # bf16 where this CPU multiplies it
    dtype = "bf16" if quick == torch.bfloat16 else "fp32"
    overrides = [
        f"training_folder={tmp_path}",
        "train.steps=150",
        "train.batch_size=4",
        "train.disable_sampling=true",
        f"train.dtype={dtype}",
    ]
    assert run_job(EXAMPLE, None, *overrides).status == "done"
    monkeypatch.setattr(draw, "NUM_STEPS", 10)
    folder = tmp_path / "flux2_tiny_zorbo"
    proof = prove(folder / "flux2_tiny_zorbo.safetensors", model=TINY, num_prompts=6, grid=tmp_path / "grid.jpg")
    assert proof.emblem_before <= 0.05
    assert proof.emblem_after >= 0.25
    assert proof.ordinary_before >= 0.8
    assert proof.ordinary_after >= 0.8 * proof.ordinary_before
