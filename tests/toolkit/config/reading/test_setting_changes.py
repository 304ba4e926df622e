"""toolkit.config.reading.setting_changes"""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.config import TrainingProcessConfig
from toolkit.config.reading.setting_changes import differences, is_harmless
from toolkit.section import section_of, sections


def _keys() -> list[str]:
    """Every key of a process that holds a value, without list indices."""
    found = []
    for path, section in sections(TrainingProcessConfig).items():
        place = path.replace("[]", "")
        for key, field in section.model_fields.items():
            if section_of(field.annotation)[0] is None:
                found.append(f"{place}.{key}".lstrip("."))
    return found


def _dump(**sections: Any) -> dict[str, Any]:
    process = {
        "type": "sd_trainer",
        "model": {"name_or_path": "a/b", "arch": "x"},
        "network": {"type": "lora"},
        "datasets": [{"folder_path": "/tmp"}],
    }
    return TrainingProcessConfig.model_validate({**process, **sections}).model_dump(mode="json")


def test_every_key_has_a_verdict_and_those_that_shape_a_step_the_grave_one() -> None:
    harmless = {key for key in _keys() if is_harmless(key, _dump())}
    assert {"train.steps", "save.save_every", "sample.seed", "first_sample.width", "model.low_vram"} <= harmless
    assert {"datasets.folder_path", "logging.log_every", "name", "model.model_kwargs.train_distilled"} <= harmless
    grave = {key for key in _keys() if key.split(".")[0] in ("network", "train", "datasets")} - harmless
    assert {"train.lr", "train.optimizer_params.betas", "train.ema_config.use_ema", "network.linear"} <= grave
    assert not is_harmless("model.compile", _dump()), "it changes how numbers are rounded"
    assert {"datasets.resolution", "train.batch_size", "network.network_kwargs.only_if_contains"} <= grave


@pytest.mark.parametrize("key", ["nonsense", "train.nonsense", "train.optimizer_params.nonsense", "train.lr.nonsense"])
def test_a_key_that_nobody_knows_counts_as_one_that_changes_training(key: str) -> None:
    assert not is_harmless(key, _dump())


def test_the_same_settings_do_not_differ() -> None:
    assert differences(_dump(), _dump()) == []


def test_differences_are_named_with_their_values() -> None:
    now = _dump(train={"steps": 2000, "lr": 0.001}, datasets=[{"folder_path": "/tmp", "resolution": 512}])
    assert {str(difference): difference.is_harmless for difference in differences(_dump(), now)} == {
        "datasets[0].resolution: [1024] -> [512]": False,
        "train.steps: 1000 -> 2000": True,
        "train.lr: 0.0001 -> 0.001": False,
    }


def test_a_section_or_dataset_that_comes_or_goes_is_a_difference() -> None:
    two = _dump(datasets=[{"folder_path": "/tmp"}, {"folder_path": "/usr"}])
    for before, now in ((_dump(), two), (two, _dump())):
        assert any(not difference.is_harmless for difference in differences(before, now))
    with_ema = _dump(train={"ema_config": {"use_ema": True}})
    assert [difference.key for difference in differences(_dump(), with_ema)][:1] == ["train.ema_config.use_ema"]


def test_a_key_that_did_not_exist_then_had_its_default() -> None:
    before = _dump()
    del before["train"]["loss_type"]
    assert differences(before, _dump()) == []
    (difference,) = differences(before, _dump(train={"loss_type": "mae"}))
    assert str(difference) == 'train.loss_type: "mse" -> "mae"'
