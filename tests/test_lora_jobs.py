"""Whole runs: which LoRA file a job leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import run_job, write_job
from toolkit.config import load_job
from toolkit.errors import JobError
from toolkit.lora.files import read_lora_file
from toolkit.weights.tensor_files import read_tensors


def _short(tmp_path: Path, **sections: Any) -> Path:
    return write_job(tmp_path, train={"steps": 1, "batch_size": 1}, trigger_word="xyz", **sections)


@pytest.mark.parametrize(
    ("save", "key"),
    [
        # ai-toolkit's web page writes this into every LoRA job, where it means nothing.
        ({"save_format": "diffusers"}, "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"),
        ({"lora_format": "diffusers"}, "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"),
        ({"save_format": "kohya"}, "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"),
    ],
)
def test_a_lora_is_written_as_the_job_says(save: dict[str, str], key: str, tmp_path: Path) -> None:
    assert run_job(_short(tmp_path, save={"save_every": 0, **save})).status == "done"
    path = tmp_path / "output" / "job" / "job.safetensors"
    assert key in read_tensors(path)
    file = read_lora_file(path)
    assert file.model.arch == "flux2_tiny"
    assert file.metadata["modelspec.hash_sha256"] == f"0x{file.hash}"
    assert len(json.loads(file.metadata["base_model"])["fingerprint"]) == 64
    assert json.loads(file.metadata["training_settings"])["steps"] == 1


@pytest.mark.parametrize(
    ("save", "file_format", "notice"),
    [
        ({}, "bfl", ""),
        ({"lora_format": "kohya"}, "kohya", ""),
        ({"save_format": "kohya"}, "kohya", "read as `lora_format: kohya`"),
        ({"save_format": "BFL"}, "bfl", "read as `lora_format: bfl`"),
        ({"save_format": "bfl", "lora_format": "bfl"}, "bfl", ""),
        ({"save_format": "safetensors"}, "bfl", ""),
        ({"save_format": "diffusers"}, "bfl", "for diffusers' names write `lora_format: diffusers`"),
        ({"save_format": "diffusers", "lora_format": "kohya"}, "kohya", ""),
    ],
)
def test_one_rule_leads_from_two_keys_to_the_format(
    save: dict[str, str], file_format: str, notice: str, tmp_path: Path
) -> None:
    job = load_job(_short(tmp_path, save=save))
    assert job.training().save.lora_file_format == file_format
    notices = [line for line in job.notices if "save_format" in line]
    assert len(notices) == bool(notice)
    assert notice in "".join(notices)


def test_formats_that_contradict_each_other_or_the_job_are_errors(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="`save_format` and `lora_format` name different LoRA file formats"):
        load_job(_short(tmp_path, save={"save_format": "kohya", "lora_format": "bfl"}))
    full = {"steps": 1, "full_finetune": True}
    with pytest.raises(JobError, match=r"save\.save_format: `kohya` is a LoRA file format\. Write `safetensors`"):
        load_job(write_job(tmp_path, network=None, train=full, save={"save_format": "kohya"}))


def test_layers_that_a_format_cannot_carry_are_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = _short(tmp_path, network={"transformer_only": False}, save={"lora_format": "kohya"})
    assert run_job(job).status != "done"
    assert "cannot be written as `kohya`" in capsys.readouterr().err
    assert not (tmp_path / "output" / "job" / "job.safetensors").exists()
