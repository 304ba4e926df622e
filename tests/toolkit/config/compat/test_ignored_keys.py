from __future__ import annotations

from collections import Counter

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config.captioning.settings import CaptionProcessConfig
from toolkit.config.compat.experiments import EXPERIMENTS
from toolkit.config.compat.ignored_keys import IGNORED, UNSUPPORTED_VALUES
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.config.job import job_sections
from toolkit.config.lora_jobs.settings import ExtractConfig, RescaleConfig
from toolkit.config.training_process import TrainingProcessConfig


def test_every_key_that_is_left_alone_stands_once_and_is_no_key_of_ours() -> None:
    counts = Counter((row.section, key) for row in IGNORED for key in row.off)
    assert [key for key, count in counts.items() if count > 1] == []
    assert [(row.section, key) for row in IGNORED for key in row.off if key in row.section.model_fields] == []
    kinds = (TrainingProcessConfig, GenerateProcessConfig, ExtractConfig, RescaleConfig, CaptionProcessConfig)
    assert {row.section for row in IGNORED} <= {one for kind in kinds for one in job_sections(kind).values()}


def test_few_keys_wait_for_their_support_and_the_experiments_have_reasons() -> None:
    rows = [row for row in IGNORED if "not supported yet" in row.reason]
    waiting = [key for row in rows for key in row.off]
    assert len(waiting) <= 12, waiting
    keys = [key for row in EXPERIMENTS if row.verdict == "refuse" for key in row.off]
    assert len(keys) >= 50
    assert all(len(row.reason) > 15 and "not supported" not in row.reason for row in EXPERIMENTS)


def test_an_experiment_is_refused_with_its_reason(process: Tree, problems: Problems) -> None:
    process["train"] |= {"noise_offset": 0.1, "min_snr_gamma": 5, "loss_target": "source"}
    found = problems()
    assert "write `loss_weighting: min_snr`" in found["train.min_snr_gamma"]
    assert {"train.noise_offset", "train.loss_target"} <= set(found)


def test_values_that_are_not_supported_belong_to_keys_of_ours() -> None:
    assert all(key in section.model_fields for section, key in UNSUPPORTED_VALUES)


def test_a_harmless_key_is_named_in_a_notice(process: Tree, check: Check) -> None:
    process["train"]["attention_backend"] = "flash"
    assert check().notices == (
        "config.process[0].train.attention_backend: ignored: the kernel is chosen by `model.attention_backend`",
    )


def test_a_key_that_would_change_the_training_is_refused(process: Tree, problems: Problems) -> None:
    process["train"] |= {"train_text_encoder": True, "noise_offset": 0.1}
    process["datasets"][0] |= {"augments": ["ColorJitter"], "buckets": False}
    assert set(problems()) == {
        "train.train_text_encoder",
        "train.noise_offset",
        "datasets[0].augments",
        "datasets[0].buckets",
    }


def test_a_key_that_is_off_is_not_mentioned(process: Tree, check: Check) -> None:
    process["train"] |= {"train_text_encoder": False, "train_unet": True, "noise_offset": 0.0, "max_loss": None}
    process["datasets"][0] |= {"control_path": None, "network_weight": 1.0, "controls": []}
    process |= {"adapter": None, "sqlite_db_path": "./aitk_db.db"}
    assert check().notices == ()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "noise_scheduler", "ddpm"),
    ],
)
def test_a_value_that_ai_toolkit_knows_is_not_called_a_mistake(
    section: str, key: str, value: str, process: Tree, problems: Problems
) -> None:
    process[section][key] = value
    assert f'"{value}" is not supported yet. ' in problems()[f"{section}.{key}"]


def test_wavelet_and_stepped_are_read_as_what_they_compute(process: Tree, check: Check, problems: Problems) -> None:
    process["train"]["loss_type"] = "Wavelet"
    job = check()
    assert job.training().train.loss_type == "mse"
    assert any("loss_type: is read as `mse`, which it equals" in notice for notice in job.notices)
    process["train"]["loss_type"] = "stepped"
    train = check().training().train
    assert (train.loss_type, train.loss_weighting) == ("mse", "stepped")
    process["train"]["loss_weighting"] = "even"
    assert "keep one of them" in problems()["train.loss_type"]


@pytest.mark.parametrize(
    ("train", "key"),
    [
        ({"timestep_type": "linear", "timestep_params": {"mean": 1}}, "train.timestep_params.mean"),
        ({"timestep_type": "beta", "timestep_params": {"alpha": 0.1}}, "train.timestep_params.alpha"),
        ({"timestep_type": "sigmoid", "timestep_params": {"std": 0}}, "train.timestep_params.std"),
        ({"loss_type": "mae", "loss_params": {"delta": 1}}, "train.loss_params.delta"),
        ({"loss_type": "huber", "loss_params": {"delta": 0}}, "train.loss_params.delta"),
        ({"max_loss": 0}, "train.max_loss"),
        ({"loss_weighting": "snr"}, "train.loss_weighting"),
    ],
)
def test_settings_of_another_choice_are_mistakes(train: Tree, key: str, process: Tree, problems: Problems) -> None:
    process["train"] |= train
    assert key in problems()
