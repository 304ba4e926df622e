"""Settings that save memory, in whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_training import _equal
from tests.tiny import losses, run_job, write_job
from toolkit.config import load_job
from toolkit.errors import JobError
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.output.events import read_events

OFFLOADED = {
    "layer_offloading": True,
    "layer_offloading_transformer_percent": 0.5,
    "activation_offloading": True,
}


def test_an_offloaded_run_learns_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = ActivationOffload.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "smallest_bytes", 0)
    sample = {"sample_every": 3, "prompts": ["a red circle"], "format": "png"}
    outputs = []
    quantized = {"quantize": True, "qtype": "int8", "quantize_cache": str(tmp_path / "quantized")}
    for name, model in (("plain", quantized), ("offloaded", quantized | OFFLOADED)):
        (tmp_path / name).mkdir()
        train = {
            "disable_sampling": False,
            "ema_config": {"use_ema": True, "power_ema": True},
            "gradient_accumulation": 2,
            "steps": 4,
        }
        assert run_job(write_job(tmp_path / name, model=model, sample=sample, train=train)).status == "done"
        outputs.append(tmp_path / name / "output" / "job")
    plain, offloaded = outputs
    assert losses(plain) == losses(offloaded)
    assert _equal(plain / "job.safetensors", offloaded / "job.safetensors")
    pictures = [sorted((path.name[15:], path.read_bytes()) for path in (o / "samples").glob("*.png")) for o in outputs]
    assert pictures[0] == pictures[1] != []
    told = [event.get("text", "") for event in read_events(offloaded / "events.jsonl")]
    assert any("are kept in RAM" in text for text in told)
    assert any("quantized weights (int8" in text and "read from" in text for text in told), "not made a second time"


@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"network": None, "train": {"full_finetune": True}, "model": {"layer_offloading": True}}, "layer_offloading"),
        ({"network": None, "train": {"full_finetune": True}, "model": {"quantize": True}}, "model.quantize"),
        ({"model": {"activation_offloading": True}, "train": {"gradient_checkpointing": False}}, "activation_offload"),
        ({"train": {"fused_backward_pass": True}}, "fused_backward_pass"),
        ({"train": {"full_finetune_weights": "bf16_split"}}, "full_finetune_weights"),
        (
            {"network": None, "train": {"full_finetune": True, "fused_backward_pass": True}},
            "max_grad_norm: 0",
        ),
        (
            {
                "network": None,
                "train": {
                    "full_finetune": True,
                    "fused_backward_pass": True,
                    "max_grad_norm": 0,
                    "gradient_accumulation": 2,
                },
            },
            "gradient_accumulation: 1",
        ),
        ({"network": None, "train": {"full_finetune": True, "full_finetune_weights": "bf16_split"}}, "dtype: bf16"),
        ({"model": {"layer_offloading": True, "layer_offloading_transformer_percent": 70}}, "percent"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(sections: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=what):
        load_job(write_job(tmp_path, **sections))


def test_the_old_name_of_layer_offloading_and_auto_are_understood(tmp_path: Path) -> None:
    model = {"auto_memory": True, "layer_offloading_transformer_percent": "auto"}
    job = load_job(write_job(tmp_path, model=model))
    assert job.training().model.layer_offloading
