from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.config.conftest import Check, Problems, Tree
from toolkit.config.dataset import MAX_CONTROLS, DatasetConfig


def test_numbered_control_folders_stand_in_their_order_before_the_list(
    process: Tree, check: Check, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    one, two, three = map(str, folders)
    dataset = process["datasets"][0]
    for keys, expected in (
        ({}, []),
        ({"control_path": None, "control_path_1": ""}, []),
        ({"control_path": one}, [one]),
        ({"control_path": [two, one]}, [two, one]),
        ({"control_path": [two], "control_path_10": one, "control_path_2": three}, [three, one]),
    ):
        process["datasets"] = [{**dataset, **keys}]
        assert [*map(str, check().training().datasets[0].control_folders)] == expected


@pytest.mark.parametrize("key", ["control_path", "control_path_3"])
def test_a_control_folder_that_is_not_there_is_named(key: str, process: Tree, problems: Problems) -> None:
    process["datasets"][0][key] = "/nowhere/before"
    (what,) = problems().values()
    assert "/nowhere/before" in what


def test_there_is_a_most_of_control_folders(process: Tree, problems: Problems, tmp_path: Path) -> None:
    assert f"control_path_{MAX_CONTROLS}" in DatasetConfig.model_fields
    process["datasets"][0]["control_path"] = [str(tmp_path)] * (MAX_CONTROLS + 1)
    assert problems() == {"datasets[0].control_path": "needs at most 10 entries (found a list)"}
