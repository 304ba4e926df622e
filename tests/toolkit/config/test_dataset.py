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


@pytest.mark.parametrize(
    ("shares", "words"),
    [((0, 0), "`share_of_steps` is 0 for every dataset"), ((0.6, 0.4, None), "adds up to 1, so that no step is left")],
)
def test_shares_that_leave_nothing_are_named(
    shares: tuple[float | None, ...], words: str, process: Tree, problems: Problems
) -> None:
    process["datasets"] = [{**process["datasets"][0], "share_of_steps": share} for share in shares]
    assert words in " ".join(problems().values())


@pytest.mark.parametrize("shares", [(0.2, None), (0.2, 0.2), (0, 1), (0, None)])
def test_other_shares_are_taken(shares: tuple[float | None, ...], process: Tree, check: Check) -> None:
    process["datasets"] = [{**process["datasets"][0], "share_of_steps": share} for share in shares]
    assert tuple(dataset.share_of_steps for dataset in check().training().datasets) == shares


def test_keys_that_do_nothing_alone_are_named(process: Tree, check: Check) -> None:
    process["datasets"][0] |= {
        "keep_tokens": 2,
        "caption_variants": 4,
        "random_triggers_max": 2,
        "share_of_steps": 0.5,
        "color_jitter": {"hue": 0},
    }
    found = {notice.partition(":")[0].rpartition(".")[2] for notice in check().notices}
    assert found == {"keep_tokens", "caption_variants", "random_triggers_max", "share_of_steps", "color_jitter"}


def test_a_strength_of_the_network_needs_a_network(process: Tree, problems: Problems) -> None:
    process["datasets"][0]["network_weight"] = 0.5
    process["network"], process["train"]["full_finetune"] = None, True
    assert any("this job trains none: remove it" in what for what in problems().values())


@pytest.mark.parametrize("entry", ["cat", "|dog"])
def test_a_replacement_says_what_becomes_what(entry: str, process: Tree, problems: Problems) -> None:
    process["datasets"][0]["replacements"] = [entry]
    assert any('write it as "from|to"' in what for what in problems().values())
