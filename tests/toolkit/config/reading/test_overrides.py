from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree


def test_an_override_stands_for_what_the_file_says(check: Check) -> None:
    process = check(overrides=["train.lr=1e-5", "train.steps=20", "sample.prompts=[a, b]"]).training()
    assert (process.train.lr, process.train.steps, len(process.sample.items())) == (1e-5, 20, 2)


def test_numbers_in_the_path_count_list_entries(tmp_path: Path, check: Check) -> None:
    (tmp_path / "more").mkdir()
    checked = check(overrides=[f"datasets.0.folder_path={tmp_path / 'more'}", "datasets.0.resolution=[512, 768]"])
    assert checked.training().datasets[0].folder_path == tmp_path / "more"
    assert checked.training().datasets[0].resolution == (512, 768)


def test_an_override_is_part_of_the_stored_job(check: Check) -> None:
    assert "lr: 1.0e-05" in check(overrides=["train.lr=1e-5"]).as_written()


def test_an_override_replaces_the_key_under_its_other_name(process: Tree, check: Check) -> None:
    process["network"] = {"rank": 4}
    assert check(overrides=["network.linear=2"]).training().network.linear == 2


def test_an_unknown_key_is_reported_as_if_it_stood_in_the_file(problems: Problems) -> None:
    assert problems(overrides=["train.lrr=1"]) == {"train.lrr": "unknown key (found 1). Did you mean `lr`?"}


@pytest.mark.parametrize(
    ("override", "where", "what"),
    [
        ("train.lr", "--set train.lr", "KEY=VALUE"),
        ("=3", "--set ", "KEY=VALUE"),
        ("datasets.3.flip_x=true", "--set datasets.3.flip_x", "no entry 3"),
        ("datasets.flip_x=true", "--set datasets.flip_x", "must be the number of a list entry"),
        ("train.lr.x=1", "--set train.lr.x", "the key before it has a plain value"),
        ("train.lr=[1", "--set train.lr", "is not a YAML value"),
    ],
)
def test_an_override_that_leads_nowhere_is_named(override: str, where: str, what: str, problems: Problems) -> None:
    assert what in problems(overrides=[override])[where]
