"""LoRA on quantized weights, with the tiny model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.lora_gradients import lora_gradients
from tests.tiny import StopAfter, losses, run_job, tiny_model, write_job
from toolkit.config import load_job
from toolkit.models.base_model import BaseModel
from toolkit.output.events import read_events
from toolkit.quantize.frozen_linear import FrozenLinear
from toolkit.quantize.qtypes import QTYPES


def _dequantized(model: BaseModel) -> BaseModel:
    for name, layer in list(model.transformer.named_modules()):
        if isinstance(layer, FrozenLinear):
            linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
            linear.weight = nn.Parameter(layer.dequantize(torch.float32), requires_grad=False)
            model.transformer.set_submodule(name, linear)
    return model


@pytest.mark.parametrize(("qtype", "checkpointing"), [*((qtype, False) for qtype in QTYPES), ("nf4", True)])
def test_lora_gradients_are_those_on_the_dequantized_weights(qtype: str, checkpointing: bool) -> None:
    options: dict[str, Any] = {"quantize": True, "qtype": qtype, "quantize_te": False}
    quantized, plain = tiny_model("transformer", **options), _dequantized(tiny_model("transformer", **options))
    assert any(isinstance(layer, FrozenLinear) for layer in quantized.transformer.modules())
    if checkpointing:
        quantized.transformer.train()
        quantized.enable_gradient_checkpointing()
    found = lora_gradients(quantized, side=2)
    for name, expected in lora_gradients(plain, side=2).items():
        assert expected.norm() > 0
        assert (found[name] - expected).norm() <= 1e-3 * expected.norm()


def test_low_vram_quantizes_to_the_same_bits() -> None:
    options: dict[str, Any] = {"quantize": True, "qtype": "nf4", "quantize_cache": False}
    one, other = (tiny_model("transformer", low_vram=low, **options).transformer.state_dict() for low in (False, True))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def _events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["kind"] == kind]


def _counts_layers(event: dict[str, Any]) -> bool:
    return event["unit"] == "layers" and 0 < event["done"] <= event["total"]


def test_a_quantized_run_samples_stops_and_resumes_with_the_same_losses(tmp_path: Path) -> None:
    cache = tmp_path / "quantized"
    settings: dict[str, Any] = {
        "model": {"quantize": True, "qtype": "nf4", "qtype_te": "int8", "quantize_cache": str(cache)},
        "train": {"disable_sampling": False, "steps": 3},
        "sample": {"prompts": ["a red circle"], "sample_every": 3, "sample_steps": 1},
    }
    whole, parts = (write_job(tmp_path, name=name, **settings) for name in ("whole", "parts"))
    assert run_job(whole).status == "done"
    assert len(list(cache.glob("*.safetensors"))) == 2, "transformer and text encoder"
    with contextlib.suppress(KeyboardInterrupt):
        run_job(parts, StopAfter(12))
    assert run_job(parts).status == "done"
    folders = [tmp_path / "output" / name for name in ("whole", "parts")]
    one, other = (losses(folder) for folder in folders)
    assert one == other
    assert len(one) == 3
    assert _events(folders[0], "sample")
    assert {"encode text", "train"} <= {
        event["stage"] for event in _events(folders[0], "progress") if _counts_layers(event)
    }
    said = [[event["text"] for event in _events(folder, "message")] for folder in folders]
    assert sum("cached for later starts" in text for text in said[0]) == 2
    assert sum("quantized weights (nf4" in text and str(cache) in text for text in said[1]) >= 1


def test_a_full_fine_tune_refuses_to_quantize_what_it_trains(tmp_path: Path) -> None:
    job = write_job(tmp_path, network=None, train={"full_finetune": True}, model={"quantize": True})
    with pytest.raises(Exception, match=r"model\.quantize: trained weights cannot be quantized"):
        load_job(job)
    load_job(write_job(tmp_path, network=None, train={"full_finetune": True}, model={"quantize_te": True}))


def test_no_cache_leaves_nothing_behind(tmp_path: Path) -> None:
    job = write_job(tmp_path, model={"quantize": True, "qtype": "int8"}, train={"steps": 1})
    assert run_job(job, None, "model.quantize_cache=false").status == "done"
    assert not any("next start" in event["text"] for event in _events(tmp_path / "output" / "job", "message"))
