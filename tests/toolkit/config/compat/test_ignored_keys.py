from __future__ import annotations

from collections import Counter

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config.compat.ignored_keys import IGNORED, UNSUPPORTED_VALUES
from toolkit.config.job import job_sections


def test_every_key_that_is_left_alone_stands_once_and_is_no_key_of_ours() -> None:
    counts = Counter((row.section, key) for row in IGNORED for key in row.off)
    assert [key for key, count in counts.items() if count > 1] == []
    assert [(row.section, key) for row in IGNORED for key in row.off if key in row.section.model_fields] == []
    assert {row.section for row in IGNORED} <= set(job_sections().values())


def test_values_that_are_not_supported_belong_to_keys_of_ours() -> None:
    assert all(key in section.model_fields for section, key in UNSUPPORTED_VALUES)


def test_a_harmless_key_is_named_in_a_notice(process: Tree, check: Check) -> None:
    process["train"]["attention_backend"] = "flash"
    assert check().notices == (
        "config.process[0].train.attention_backend: ignored: the trainer chooses the attention backend",
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
        ("network", "type", "lokr"),
        ("train", "optimizer", "Prodigy"),
        ("train", "timestep_type", "next_sample"),
        ("train", "loss_type", "wavelet"),
        ("train", "noise_scheduler", "ddpm"),
    ],
)
def test_a_value_that_ai_toolkit_knows_is_not_called_a_mistake(
    section: str, key: str, value: str, process: Tree, problems: Problems
) -> None:
    process[section][key] = value
    assert f'"{value}" is not supported yet. ' in problems()[f"{section}.{key}"]
