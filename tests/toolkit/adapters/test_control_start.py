"""Files that control_lora starts from: with a LoRA in them, or with more than it can hold."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import run_job, write_dataset, write_job
from tests.toolkit.adapters.test_control_lora import Setup
from toolkit.adapters.files import load_adapter, write_adapter
from toolkit.errors import UserError
from toolkit.lora.__main__ import main
from toolkit.train.trainable import NetworkWeights


def test_a_lora_in_the_same_file_is_the_start_of_the_network(tmp_path: Path) -> None:
    setup = Setup(with_lora=True)
    adapter, lora = tmp_path / "a.safetensors", tmp_path / "lora.safetensors"
    assert setup.network is not None
    write_adapter(adapter, setup.adapter, dtype=torch.float32, metadata={})
    NetworkWeights(setup.network).save(tmp_path / "lora", dtype=torch.float32, metadata={"format": "pt"})
    joined, of_ai_toolkit = tmp_path / "joined.safetensors", tmp_path / "ai-toolkit.safetensors"
    assert main(["control", str(adapter), "--lora", str(lora), "--output", str(joined)]) == 0
    save_file({"transformer.x_embedder.weight": setup.columns.detach(), **load_file(lora)}, of_ai_toolkit)
    for path in (joined, of_ai_toolkit):
        other = Setup(start=True)
        taken: list[dict[str, Tensor]] = []
        load_adapter(path, other.adapter, load_lora=partial(_take, taken))
        assert torch.equal(other.columns, setup.columns)
        assert taken[0].keys() == load_file(lora).keys()
        with pytest.raises(UserError, match=f"also holds a LoRA.{{1,6}}{len(taken[0])} tensors"):
            load_adapter(path, other.adapter)


def test_a_job_goes_on_from_both_and_refuses_a_second_lora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup, joined = Setup(with_lora=True), tmp_path / "joined.safetensors"
    assert setup.network is not None
    write_adapter(tmp_path / "a.safetensors", setup.adapter, dtype=torch.float32, metadata={})
    (lora,) = NetworkWeights(setup.network).save(tmp_path / "lora", dtype=torch.float32, metadata={"format": "pt"})
    main(["control", str(tmp_path / "a.safetensors"), "--lora", str(lora), "--output", str(joined)])
    images = str(write_dataset(tmp_path / "images"))
    given: dict[str, Any] = {
        "adapter": {"type": "control_lora", "name_or_path": str(joined)},
        "datasets": [{"folder_path": images, "control_path": images, "resolution": 32}],
        "train": {"steps": 1, "lr": 1e-12},
    }
    assert run_job(write_job(tmp_path, **given)).status == "done"
    output = tmp_path / "output" / "job"
    assert torch.allclose(
        load_file(output / "job_adapter.safetensors")["diffusion_model.img_in.lora_B.weight"], setup.columns, atol=1e-6
    )
    before, after = load_file(lora), load_file(output / "job_LoRA.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    second = write_job(tmp_path, name="second", **given, network={"pretrained_lora_path": str(lora)})
    assert run_job(second).status == "failed"
    captured = capsys.readouterr()
    assert "also holds a LoRA" in captured.out + captured.err


def _take(taken: list[dict[str, Tensor]], tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    taken.append(tensors)


def test_a_file_that_changes_norms_and_biases_of_the_model_is_refused(tmp_path: Path) -> None:
    """Black Forest Labs' control LoRAs."""
    path, setup = tmp_path / "canny.safetensors", Setup(start=True)
    names = ("img_in.lora_B.bias", "double_blocks.0.img_attn.norm.query_norm.scale", "img_in.lora_A.weight")
    save_file({name: torch.ones(2) for name in names}, path)
    with pytest.raises(UserError, match="changes 1 biases and 1 norms"):
        load_adapter(path, setup.adapter, load_lora=lambda tensors, metadata: None)
