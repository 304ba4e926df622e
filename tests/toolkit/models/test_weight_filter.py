"""toolkit.models.weight_filter, and a full fine-tune of some of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.small_run import small_model
from tests.tiny import checked_of, problems_of, run_job, saved_state, tiny_model, write_job
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


def test_the_plan_counts_only_the_weights_that_are_trained(tmp_path: Path) -> None:
    filters = {"only_if_contains": ["single_blocks.0", "img_in"]}
    model = tiny_model("transformer")
    chosen = choose_weights(model, filters["only_if_contains"], [])
    count = sum(p.numel() for name, p in model.transformer.named_parameters() if name in chosen)
    ema = {"use_ema": True, "power_ema": True}
    plans = {}
    for name, section in (("filtered", filters), ("whole", {})):
        (tmp_path / name).mkdir()
        train = {"full_finetune": True, "ema_config": ema}
        plans[name] = checked_of(tmp_path / name, network=None, model=section, train=train)
    filtered, whole = plans["filtered"].memory.plan, plans["whole"].memory.plan
    (phase,) = (phase for phase in filtered.phases if phase.name == "train")
    assert filtered.inputs.num_trained == count
    assert phase.device["optimizer"] == 8 * count
    assert phase.device["average"] == 3 * 4 * count
    assert filtered.peak_ram_bytes < whole.peak_ram_bytes
    assert plans["filtered"].disk.sizes["checkpoints"] < plans["whole"].disk.sizes["checkpoints"] / 2


def test_a_filter_that_matches_nothing_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, network=None, model={"only_if_contains": "unet"}, train={"full_finetune": True})
    assert any("model.only_if_contains: `unet` matches no weight" in problem for problem in problems)
