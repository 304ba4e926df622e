"""Whole runs: which LoRA file a job leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job, JobResult
from tests.tiny import write_job
from toolkit.config import load_job
from toolkit.lora.files import read_lora_file
from toolkit.stop import StopRequest
from toolkit.weights.tensor_files import read_tensors


def _run(path: Path) -> JobResult:
    return Job(load_job(path)).run(StopRequest())


def _short(tmp_path: Path, **sections: Any) -> Path:
    return write_job(tmp_path, train={"steps": 1, "batch_size": 1}, trigger_word="xyz", **sections)


@pytest.mark.parametrize(
    ("save", "key"),
    [
        # ai-toolkit's web page writes this into every LoRA job, where it means nothing.
        ({"save_format": "diffusers"}, "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"),
        ({"lora_format": "kohya"}, "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"),
    ],
)
def test_lora_format_alone_says_how_a_lora_is_written(save: dict[str, str], key: str, tmp_path: Path) -> None:
    assert _run(_short(tmp_path, save={"save_every": 0, **save})).status == "done"
    path = tmp_path / "output" / "job" / "job.safetensors"
    assert key in read_tensors(path)
    file = read_lora_file(path)
    assert file.model.arch == "flux2_tiny"
    assert file.metadata["modelspec.hash_sha256"] == f"0x{file.hash}"
    assert len(json.loads(file.metadata["base_model"])["fingerprint"]) == 64
    assert json.loads(file.metadata["training_settings"])["steps"] == 1


def test_layers_that_a_format_cannot_carry_are_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = _short(tmp_path, network={"transformer_only": False}, save={"lora_format": "kohya"})
    assert _run(job).status != "done"
    assert "cannot be written as `kohya`" in capsys.readouterr().err
    assert not (tmp_path / "output" / "job" / "job.safetensors").exists()
