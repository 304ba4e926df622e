"""Which images are held out, and which may not be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tiny import checked_of, problems_of, write_dataset
from toolkit.train.validation.grid import Grid


def _sections(tmp_path: Path, *, count: int = 4, **validation: Any) -> dict[str, Any]:
    datasets = [{"folder_path": str(write_dataset(tmp_path / "images", count=count)), "resolution": 32}]
    return {"datasets": datasets, "train": {"validation_config": validation}, "trigger_word": "zorbo"}


def _grid(tmp_path: Path, **sections: Any) -> Grid:
    grid = checked_of(tmp_path, **sections).grid
    assert grid is not None
    assert isinstance(grid, Grid)
    return grid


def _names(grid: Grid, kind: str) -> list[str]:
    return [subject.example.path.name for subject in grid.subjects if subject.kind == kind]


@pytest.mark.parametrize(("split", "count"), [(0.5, 5), (0.01, 1), (1, 1), (3, 3)])
def test_a_split_takes_images_out_of_the_training(split: float, count: int, tmp_path: Path) -> None:
    sections = _sections(tmp_path, count=10, validation_split=split)
    sections["datasets"][0] |= {"num_repeats": 2, "flip_x": True}
    checked = checked_of(tmp_path, **sections)
    held_out = {example.path for example in checked.scan.held_out}
    assert len(held_out) == len(checked.scan.held_out) == count
    assert held_out.isdisjoint(example.path for example in checked.scan.examples)
    assert len(checked.scan.examples) == 4 * (10 - count)
    assert held_out == {example.path for example in checked_of(tmp_path, **sections).scan.held_out}


def test_few_images_are_all_trained_on_and_compared_with_their_mirrored_copies(tmp_path: Path) -> None:
    grid = _grid(tmp_path, **_sections(tmp_path, max_images=3))
    assert grid.kinds == ("train", "mirrored", "preserved")
    assert _names(grid, "train") == _names(grid, "mirrored") == ["0.png", "1.png", "2.png"]
    assert [one.example.flip_x for one in grid.subjects if one.kind == "mirrored"] == [True] * 3
    assert [one.text for one in grid.subjects if one.kind == "preserved"] == [
        f"a picture of colour {n}" for n in range(3)
    ]


def test_a_dataset_for_validation_is_never_trained_on(tmp_path: Path) -> None:
    sections = _sections(tmp_path)
    other = write_dataset(tmp_path / "others", count=2, size_px=48)
    sections["datasets"].append({"folder_path": str(other), "resolution": 32, "validation": True, "random_crop": True})
    del sections["train"]["validation_config"]
    checked = checked_of(tmp_path, **sections)
    assert {example.path.parent.name for example in checked.scan.examples} == {"images"}
    assert not checked.needs.resident
    grid = checked.grid
    assert grid is not None
    assert _names(grid, "held_out") == ["0.png", "1.png"]
    assert grid.kinds == ("held_out", "train", "preserved")
    pictures = {picture.source for picture in checked.needs.pictures}
    assert {subject.example for subject in grid.subjects} <= pictures
    assert {subject.text for subject in grid.subjects} <= checked.needs.texts.keys()


def test_items_as_in_ai_toolkit_are_scored_at_their_size(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), "red").save(tmp_path / "item.png")
    item = {"image_path": str(tmp_path / "item.png"), "prompt": "[trigger] in red"}
    keys: dict[str, Any] = {
        "validation_items": [item],
        "resolution": 64,
        "validate_every_n_steps": 5,
        "validation_sigmas": [1, 0.5],
    }
    checked = checked_of(tmp_path, **_sections(tmp_path, **keys))
    (subject,) = [one for one in checked.grid.subjects if one.kind == "held_out"]
    assert subject.text == "zorbo in red"
    assert subject.example.bucket == (80, 48)
    assert checked.grid.sigmas == (1.0, 0.5)
    assert checked.grid.together == 2
    assert checked.needs.validated[0] == ((80, 48),)
    assert checked.needs.validated_together == 2


def test_a_class_takes_the_place_of_the_trigger_word(tmp_path: Path) -> None:
    sections = _sections(tmp_path, max_images=1)
    sections["train"] |= {"diff_output_preservation": True, "diff_output_preservation_class": "thing"}
    (text,) = [one.text for one in _grid(tmp_path, **sections).subjects if one.kind == "preserved"]
    assert text == "thing a picture of colour 0"


def test_without_a_trigger_word_the_empty_prompt_is_to_stay(tmp_path: Path) -> None:
    sections = _sections(tmp_path) | {"trigger_word": None}
    assert [one.text for one in _grid(tmp_path, **sections).subjects if one.kind == "preserved"] == [""]


def _flipped(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["datasets"][0]["flip_x"] = True
    sections["train"]["validation_config"] = {"questions": ["overfit"]}


def _trained_item(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["train"]["validation_config"] = {"validation_items": [{"image_path": str(tmp_path / "images" / "0.png")}]}


def _same_pixels(sections: dict[str, Any], tmp_path: Path) -> None:
    with Image.open(tmp_path / "images" / "0.png") as image:
        image.save(tmp_path / "copy.bmp")
    sections["train"]["validation_config"] = {"validation_items": [{"image_path": str(tmp_path / "copy.bmp")}]}


def _same_dataset(sections: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "images", tmp_path / "copies")
    sections["datasets"].append({"folder_path": str(tmp_path / "copies"), "resolution": 32, "validation": True})


def _empty_dataset(sections: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sections["datasets"].append({"folder_path": str(tmp_path / "empty"), "resolution": 32, "validation": True})


def _with(**keys: Any) -> Any:
    return lambda sections, tmp_path: sections["train"].update(validation_config=keys)


def _damaged(sections: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    sections["train"]["validation_config"] = {"validation_items": [{"image_path": str(tmp_path / "bad.png")}]}


def _only_validation(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["datasets"][0]["validation"] = True


def _regularisation(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["datasets"].append({**sections["datasets"][0], "validation": True, "is_reg": True})


def _slider(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["train"] |= {"objective": "mean_flow"}


def _best_of_nothing(sections: dict[str, Any], tmp_path: Path) -> None:
    sections["train"]["validation_config"] = {"questions": ["preservation"]}
    sections["save"] = {"save_best": True}


MISTAKES: dict[str, tuple[Any, str, str]] = {
    "trained item": (_trained_item, "validation_items[0].image_path", "also trained on"),
    "same pixels": (_same_pixels, "validation_items[0].image_path", "also trained on"),
    "same dataset": (_same_dataset, "datasets[1]", "also trained on"),
    "empty dataset": (_empty_dataset, "empty", "no image"),
    "missing file": (
        _with(validation_items=[{"image_path": "/nowhere/a.png"}]),
        "image_path",
        'no file "/nowhere/a.png"',
    ),
    "damaged file": (_damaged, "validation_items[0].image_path", "cannot be read"),
    "sigma 0": (_with(validation_sigmas=[0.5, 0]), "validation_sigmas", "0"),
    "sigma above 1": (_with(validation_sigmas=[1.5]), "validation_sigmas", "1"),
    "no sigma": (_with(validation_sigmas=[]), "validation_sigmas", "1"),
    "twice": (_with(validation_sigmas=[0.5, 0.5]), "validation_config", "twice"),
    "unknown question": (_with(questions=["overfitting"]), "questions", "overfit"),
    "nothing held out": (_with(questions=["held_out"]), "questions", "there are no held-out images"),
    "nothing left": (_with(validation_split=0.99), "validation_split", "leaves none to train on"),
    "half an image": (_with(validation_split=2.5), "validation_config", "neither a share below 1 nor a whole number"),
    "mirrored copies are trained on": (_flipped, "questions", "flip_x"),
    "only validation": (_only_validation, "", "there is nothing to train on"),
    "regularisation": (_regularisation, "datasets[1]", "`is_reg` does not apply"),
    "another objective": (_slider, "train.validation_config", "learns a mean velocity"),
    "best of nothing": (_best_of_nothing, "save.save_best", "to judge rounds by"),
    "trigger word": (_with(preservation_prompts=["a zorbo"]), "preservation_prompts", "kept from learning it"),
    "patience without a figure": (
        _with(questions=["preservation"], early_stop_patience=2),
        "validation_config",
        "needs a figure that can improve",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_at_the_check(name: str, tmp_path: Path) -> None:
    make, where, what = MISTAKES[name]
    sections = _sections(tmp_path)
    make(sections, tmp_path)
    found = problems_of(tmp_path, **sections)
    assert any(where in problem and what in problem for problem in found), found
