"""What a scan makes of a dataset's settings on cuts, colours, shares and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.config.dataset import DatasetConfig
from toolkit.data import Scan, describe_scan, scan_datasets
from toolkit.data.examples import Colors
from toolkit.randomness import Draws

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]


def test_square_crops_and_scaled_images_have_their_own_buckets(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", (128, 64))
    make_image("b.png", (32, 32))
    assert [example.bucket for example in scan_folder(square_crop=True).examples] == [(64, 64), (32, 32)]
    assert [example.bucket for example in scan_folder(scale=0.5).examples] == [(64, 32), (16, 16)]
    larger = scan_folder(scale=2)
    assert [example.bucket for example in larger.examples] == [(80, 48), (64, 64)]
    assert any("1 image scaled up by `scale`: b.png" in notice for notice in larger.notices)


def test_a_random_scale_is_drawn_between_the_bucket_and_the_image(
    make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", (256, 256))
    make_image("b.png", (64, 64))
    scan = scan_folder(random_scale=True, random_crop=True)
    drawn = [scan.examples[0].cropped_by(Draws(1).python("crop", index, 0)) for index in range(200)]
    sizes = [one.fit.resized[0] for one in drawn]
    assert min(sizes) < 72 and max(sizes) > 248 and {one.bucket for one in drawn} == {(64, 64)}
    assert all(0 <= one.fit.crop[0] <= one.fit.resized[0] - 64 for one in drawn) and scan.examples[0].is_drawn
    assert any("`random_scale` changes nothing: b.png" in notice for notice in scan.notices)


def test_settings_of_use_reach_the_examples(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png")
    (example,) = scan_folder(batch_size=3, network_weight=0.5, color_jitter={"hue": 0.1}).examples
    assert (example.batch_size, example.network_weight, example.jitter) == (3, 0.5, Colors(0.0, 0.0, 0.0, 0.1))
    assert example.is_drawn


def both(folder: Path, **second: Any) -> list[DatasetConfig]:
    config = {"folder_path": folder, "resolution": 64, "default_caption": ""}
    return [DatasetConfig.model_validate(config), DatasetConfig.model_validate({**config, **second})]


def test_the_shares_are_said_with_the_steps_of_a_pass(folder: Path, make_image: MakeImage) -> None:
    for number in range(4):
        make_image(f"{number}.png")
    scan = scan_datasets(both(folder, share_of_steps=0.2), divisor_px=16, trigger_word=None)
    lines = describe_scan(scan, batch_size=2, shares={1: 0.2})
    assert lines[-2:] == (
        "one epoch: 4 examples in 2 batches of up to 2: 2.5 steps",
        f"20.0% of the steps train on {folder}; one pass over it: 4 examples in 2 batches of up to 2: 10 steps",
    )


def test_weights_that_leave_nothing_to_learn_are_a_problem(folder: Path, make_image: MakeImage) -> None:
    make_image("a.png")
    datasets = both(folder, is_reg=True)
    scan = scan_datasets(datasets, divisor_px=16, trigger_word=None, reg_weight=0)
    assert not scan.problems and any("steps on it change nothing" in notice for notice in scan.notices)
    (problem,) = scan_datasets(datasets[1:], divisor_px=16, trigger_word=None, reg_weight=0).problems
    assert "nothing is learned" in problem.what


def test_a_regularisation_set_of_nothing_is_a_problem(folder: Path, make_image: MakeImage, tmp_path: Path) -> None:
    make_image("a.png")
    empty = tmp_path / "regularisation"
    empty.mkdir()
    (problem,) = scan_datasets(both(folder, is_reg=True, folder_path=empty), divisor_px=16, trigger_word=None).problems
    assert problem.where == str(empty) and "contains no images" in problem.what


def test_colours_that_change_beside_references_are_a_problem(
    make_image: MakeImage, scan_folder: ScanFolder, folder: Path
) -> None:
    make_image("a.png")
    scan = scan_folder(color_jitter={"hue": 0.1}, control_path=str(folder))
    assert any(problem.where == "datasets[0].color_jitter" for problem in scan.problems)


def test_a_large_dataset_that_every_start_encodes_anew_is_said(
    make_image: MakeImage, scan_folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.data.scan.WORTH_CACHING", 2)
    for name in ("a.png", "b.png"):
        make_image(name, caption=name)
    assert any("2 images are encoded again at every start" in notice for notice in scan_folder().notices)
    assert scan_folder(cache_latents_to_disk=True).notices == ()


@pytest.mark.parametrize("key", ["share_of_steps", "scale", "network_weight", "batch_size"])
def test_values_that_make_no_sense_are_refused(key: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=key):
        DatasetConfig.model_validate({"folder_path": folder, key: 0 if key != "share_of_steps" else 1.5})
