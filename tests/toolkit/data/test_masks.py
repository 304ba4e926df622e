"""toolkit/data/beside: masks are found by name, checked, and loaded with the very crop and flip of the image."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.config import DatasetConfig
from toolkit.data.beside.mask_loading import CELL_PX, load_mask
from toolkit.data.beside.masks import with_masks
from toolkit.data.examples import Example
from toolkit.data.images import load_image
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import Scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, 96 x 64, white in one corner, with a mask each that is white there too."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for stem in ("a", "b"):
            corner().save(tmp_path / name / f"{stem}.png")
    for stem in ("a", "b"):
        (tmp_path / "images" / f"{stem}.txt").write_text("a corner")
    return tmp_path


def corner(*, mode: str = "L", size: tuple[int, int] = (96, 64)) -> Image.Image:
    image = Image.new("L", size)
    image.paste(255, (size[0] // 2, 0, size[0], size[1] // 4))
    return image.convert(mode)


def scan_of(folder: Path, *more: DatasetConfig, **settings: Any) -> Scan:
    given = {"folder_path": folder / "images", "resolution": 64, "mask_path": folder / "masks", **settings}
    datasets = [DatasetConfig.model_validate(given), *more]
    return with_masks(scan_datasets(datasets, divisor_px=16, trigger_word=None), datasets)


def problems(scan: Scan) -> str:
    return "\n".join(map(str, scan.problems))


def shown(example: Example) -> np.ndarray[Any, Any]:
    assert example.mask is not None
    return np.asarray(load_mask(example.mask), dtype=float)


@pytest.mark.parametrize("settings", [{}, {"flip_x": True, "flip_y": True}, {"random_crop": True, "resolution": 48}])
def test_a_mask_has_the_crop_and_flip_of_its_image(settings: dict[str, Any], folder: Path) -> None:
    scan = scan_of(folder, **settings)
    assert not scan.problems
    for number, example in enumerate(scan.examples):
        example = example.cropped_by(Random(number))
        image = load_image(example, background=(0, 0, 0)).convert("L")
        cells = np.asarray(image.resize((image.width // CELL_PX, image.height // CELL_PX), Image.Resampling.BOX), float)
        assert np.abs(shown(example) - cells).mean() < 4, "the image is the mask, but for how it is resized"


def test_a_cell_is_the_mean_over_its_area(folder: Path) -> None:
    image = Image.new("L", (96, 64))
    image.paste(255, (0, 0, 4, 2))  # a quarter of an eighth of the first cell, had it not been scaled
    image.save(folder / "masks" / "a.png")
    example = next(example for example in scan_of(folder, resolution=96).examples if example.path.stem == "a")
    assert example.fit.resized == (96, 64)
    assert shown(example)[0, 0] == pytest.approx(255 * 8 / 64, abs=1)
    assert shown(example).sum() == shown(example)[0, 0]


def test_transparency_can_be_the_mask_and_either_can_be_inverted(folder: Path) -> None:
    for stem in ("a", "b"):
        picture = Image.new("RGBA", (96, 64), "red")
        picture.putalpha(corner())
        picture.save(folder / "images" / f"{stem}.png")
    plain = shown(scan_of(folder).examples[0])
    assert np.abs(shown(scan_of(folder, mask_path=None, alpha_mask=True).examples[0]) - plain).max() < 2
    assert np.abs(255 - shown(scan_of(folder, invert_mask=True).examples[0]) - plain).max() < 2


def test_an_opaque_image_is_trained_as_a_whole_and_a_set_of_them_is_refused(folder: Path) -> None:
    assert "would mask nothing" in problems(scan_of(folder, mask_path=None, alpha_mask=True))
    picture = Image.new("RGBA", (96, 64), "red")
    picture.putalpha(corner())
    picture.save(folder / "images" / "a.png")
    scan = scan_of(folder, mask_path=None, alpha_mask=True)
    assert not scan.problems
    assert any("without transparency, trained as a whole: b.png" in notice for notice in scan.notices)
    assert [example.mask is None for example in scan.examples] == [False, True]


def test_a_transparent_part_of_a_mask_file_does_not_count(folder: Path) -> None:
    picture = Image.new("RGBA", (96, 64), "white")
    picture.putalpha(corner())
    picture.save(folder / "masks" / "a.png")
    one, other = (shown(example) for example in scan_of(folder).examples)
    assert np.abs(one - other).max() < 2


@pytest.mark.parametrize("name", ["a.mask.png", "a-masklabel.png"])
def test_masks_beside_their_images_are_not_trained_on(name: str, folder: Path) -> None:
    corner().save(folder / "images" / name)
    corner().save(folder / "images" / "b.mask.png")
    scan = scan_of(folder, mask_path=folder / "images")
    assert not scan.problems
    assert [example.path.name for example in scan.examples] == ["a.png", "b.png"]
    assert all(example.mask is not None for example in scan.examples)
    unused = scan_of(folder, mask_path=None, default_caption="")
    assert len(unused.examples) == 4
    assert any("named like masks of other images" in notice for notice in unused.notices)
    (folder / "images" / "b.mask.png").unlink()
    assert "b.png: has no mask next to it" in problems(scan_of(folder, mask_path=folder / "images"))


def test_a_folder_of_masks_within_the_dataset_is_not_trained_on(folder: Path) -> None:
    (folder / "masks").rename(folder / "images" / "masks")
    scan = scan_of(folder, mask_path=folder / "images" / "masks")
    assert not scan.problems
    assert len(scan.examples) == 2


def test_what_cannot_be_meant_is_named(folder: Path) -> None:
    masks = folder / "masks"
    (masks / "b.png").rename(masks / "c.png")
    assert "b.png: has no mask in" in problems(scan_of(folder))
    corner().save(masks / "b.png")
    assert f"{masks}: 1 mask belongs to no image: c.png" in problems(scan_of(folder))
    (masks / "c.png").unlink()
    corner(size=(64, 64)).save(masks / "b.png")
    assert "64 x 64 has another aspect ratio than its image, 96 x 64" in problems(scan_of(folder))
    corner(size=(192, 128)).save(masks / "b.png")
    assert not scan_of(folder).problems
    (masks / "b.png").write_bytes(b"no picture")
    assert "b.png: cannot be read" in problems(scan_of(folder))
    Image.new("L", (96, 64)).save(masks / "b.png")
    assert "b.png: shows nothing: no pixel is white" in problems(scan_of(folder, mask_min_value=0.5))
    Image.new("L", (96, 64), 255).save(masks / "b.png")
    assert "no pixel is not white, which `invert_mask` asks for" in problems(scan_of(folder, invert_mask=True))


def test_two_datasets_may_share_a_folder_of_masks(folder: Path) -> None:
    (folder / "more").mkdir()
    for ending in ("png", "txt"):
        (folder / "images" / f"b.{ending}").rename(folder / "more" / f"b.{ending}")
    other = DatasetConfig.model_validate(
        {"folder_path": folder / "more", "resolution": 64, "mask_path": folder / "masks"}
    )
    assert not scan_of(folder, other).problems


def test_a_changed_mask_is_told_on_resuming(folder: Path) -> None:
    sources = [folder / "images"]
    before = scan_of(folder).fingerprint(sources)
    Image.new("L", (96, 64), 255).save(folder / "masks" / "b.png")
    now = scan_of(folder).fingerprint(sources)
    assert [name for name in now if now[name] != before[name]] == ["b.png"]
