"""toolkit.models.weight_filter, and a full fine-tune of some of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.small_run import small_model
from tests.tiny import run_job, saved_state, tiny_model, write_job
from toolkit.errors import UserError
from toolkit.models.weight_filter import choose_weights
from toolkit.weights.tensor_files import read_tensors


def test_filters_match_the_names_of_our_library_and_of_the_released_model() -> None:
    model = tiny_model("transformer")
    everything = {name for name, _ in model.transformer.named_parameters()}
    assert choose_weights(model, ["img_attn.qkv"], ["to_k"]) == {
        f"transformer_blocks.{i}.attn.{layer}.weight" for i in range(2) for layer in ("to_q", "to_v")
    }
    assert choose_weights(model, [], ["single_blocks", "single_transformer_blocks"]) == {
        name for name in everything if "single_transformer" not in name
    }


def test_a_filter_without_effect_and_one_that_leaves_nothing_are_refused() -> None:
    model = small_model()
    with pytest.raises(UserError, match=r"only_if_contains: `unet` matches no weight. Names look like `?transformer\."):
        choose_weights(model, ["unet"], [])
    with pytest.raises(UserError, match="excludes everything"):
        choose_weights(model, ["single"], ["single_"])


def test_a_full_fine_tune_changes_only_the_chosen_weights_and_resumes(tmp_path: Path) -> None:
    filters = {"only_if_contains": ["single_blocks.0"], "ignore_if_contains": "linear2"}
    train = {"full_finetune": True, "steps": 2, "lr": 1e-3, "disable_sampling": True}
    job = write_job(tmp_path, network=None, model=filters, train=train, save={"save_every": 1, "dtype": "fp32"})
    assert run_job(job).status == "done"
    found = read_tensors(tmp_path / "output" / "job" / "job.safetensors")
    base = saved_state(tiny_model("transformer"))
    changed = {name for name, tensor in base.items() if not torch.equal(found[name], tensor)}
    assert changed == {"single_blocks.0.linear1.weight"}
