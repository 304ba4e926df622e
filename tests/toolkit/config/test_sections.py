"""What single sections make of their values."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from toolkit.config import (
    DatasetConfig,
    EmaConfig,
    ModelConfig,
    NetworkConfig,
    SaveConfig,
    TrainConfig,
    TrainingProcessConfig,
)
from toolkit.config.job import job_sections
from toolkit.section import Section


def test_alpha_is_the_rank_unless_said() -> None:
    network = NetworkConfig(linear=32)
    assert (network.linear_alpha, network.scale, network.rank, network.alpha) == (32, 1.0, 32, 32)
    assert NetworkConfig(linear=16, linear_alpha=4).scale == 0.25


def test_the_text_encoder_is_quantized_with_the_transformer_unless_said() -> None:
    base = {"name_or_path": "a/b", "arch": "x"}
    assert ModelConfig(**base, quantize=True).quantize_te is True
    assert ModelConfig(**base, quantize=True, quantize_te=False).quantize_te is False


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [
        ("bf16", "bf16"),
        ("bfloat16", "bf16"),
        ("float16", "fp16"),
        ("fp16", "fp16"),
        ("FP32", "fp32"),
        ("float", "fp32"),
    ],
)
def test_a_precision_has_many_spellings(spelling: str, dtype: str) -> None:
    assert SaveConfig(dtype=spelling).dtype == dtype


def test_other_spellings_of_values_are_understood() -> None:
    train = TrainConfig(optimizer="AdamW8bit", timestep_type="flux_shift", loss_type="l1")
    assert (train.optimizer, train.timestep_type, train.loss_type) == ("adamw8bit", "shift", "mae")


def test_a_resolution_may_be_one_number_or_a_list() -> None:
    assert DatasetConfig(folder_path="x", resolution=512).resolution == (512,)
    assert DatasetConfig(folder_path="x", resolution=[512, 768]).resolution == (512, 768)


@pytest.mark.parametrize("extension", ["txt", ".txt"])
def test_a_caption_extension_needs_no_dot(extension: str) -> None:
    assert DatasetConfig(folder_path="x", caption_ext=extension).caption_ext == ".txt"


def test_layer_filters_may_be_one_text_or_a_list() -> None:
    network = NetworkConfig(network_kwargs={"only_if_contains": "attn", "ignore_if_contains": ["mlp", "proj"]})
    assert network.network_kwargs.only_if_contains == ("attn",)
    assert network.network_kwargs.ignore_if_contains == ("mlp", "proj")


@pytest.mark.parametrize(
    ("kind", "given", "steps", "warmup"),
    [
        ("constant", None, 1000, 0),
        ("cosine", 10, 1000, 10),
        ("constant_with_warmup", None, 500, 50),
        ("constant_with_warmup", None, 50_000, 1000),
        ("constant_with_warmup", 3, 500, 3),
    ],
)
def test_warmup_is_as_set_or_fits_the_run(kind: str, given: int | None, steps: int, warmup: int) -> None:
    train = TrainConfig(steps=steps, lr_scheduler=kind, lr_scheduler_params={"warmup_steps": given})
    assert train.warmup_steps == warmup


def test_an_average_is_kept_only_if_asked_for() -> None:
    assert TrainConfig().ema_config is None
    assert EmaConfig().use_ema is False


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().steps = 3  # type: ignore[misc]


def test_numbers_are_not_true_or_false() -> None:
    for value in ({"lr": True}, {"steps": False}, {"lr": float("inf")}):
        with pytest.raises(ValidationError):
            TrainConfig(**value)


def test_every_flux2_arch_is_flux2_and_no_other() -> None:
    archs = ["flux2", "flux2_klein_4b", "flux2_klein_9b", "flux", "sdxl"]
    assert [ModelConfig(name_or_path="a/b", arch=arch).is_flux2 for arch in archs] == [True, True, True, False, False]


def test_a_section_made_in_python_asks_for_no_files() -> None:
    assert DatasetConfig(folder_path="/no/such/folder").folder_path == Path("/no/such/folder")


def test_the_output_folder_has_the_name_of_the_process_or_the_job() -> None:
    base = {"type": "t", "model": {"name_or_path": "a/b", "arch": "x"}, "datasets": [{"folder_path": "x"}]}
    assert TrainingProcessConfig(**base).output_folder("cat") == Path("output/cat")
    assert TrainingProcessConfig(**base, name="dog", training_folder="runs").output_folder("cat") == Path("runs/dog")


@pytest.mark.parametrize("section", sorted(set(job_sections().values()), key=str))
def test_every_key_is_documented_and_every_alias_leads_to_one(section: type[Section]) -> None:
    assert all(field.description for field in section.model_fields.values())
    assert set(section.aliases.values()) <= set(section.model_fields)
    assert not set(section.aliases) & set(section.model_fields)
