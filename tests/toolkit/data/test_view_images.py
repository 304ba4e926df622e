"""toolkit.data.view_images, by scans"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.toolkit.conftest import MakeImage, ScanFolder
from toolkit.data.examples import ViewImage
from toolkit.files import sha256_file


@pytest.fixture
def views(tmp_path: Path) -> Path:
    path = tmp_path / "views"
    path.mkdir()
    return path


def _save(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return path


def test_views_are_found_by_path_then_by_name_and_flipped_with_their_image(
    folder: Path, views: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", size=(64, 64))
    make_image("b.png", size=(64, 64))
    one, other = _save(views / "a.jpg"), _save(views / "inside" / "b.png", mode="L")
    scan = scan_folder(clip_image_path=views, flip_x=True, background_color=[1, 2, 3])
    assert not scan.problems
    assert {example.view for example in scan.examples} == {
        ViewImage(path, sha256_file(path), flip_x, False, (1, 2, 3))
        for path in (one, other)
        for flip_x in (False, True)
    }
    assert all(example.view is not None and example.view.flip_x == example.flip_x for example in scan.examples)


@pytest.mark.parametrize("key", ["the same folder", "a switch"])
def test_an_image_may_be_its_own_view(folder: Path, make_image: MakeImage, scan_folder: ScanFolder, key: str) -> None:
    make_image("a.png", size=(64, 64))
    options = {"clip_image_path": folder} if key == "the same folder" else {"clip_image_from_same_folder": True}
    (example,) = scan_folder(**options).examples
    assert example.view is not None
    assert (example.view.path, example.view.content_hash) == (example.path, example.content_hash)


def test_a_folder_of_views_inside_the_dataset_is_not_trained_on(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", size=(64, 64))
    view = _save(folder / "views" / "a.png")
    (example,) = scan_folder(clip_image_path=view.parent).examples
    assert example.path == folder / "a.png"
    assert example.view is not None and example.view.path == view


def test_every_view_that_cannot_be_used_is_a_problem_with_its_own_name(
    folder: Path, views: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    for name in "abcd":
        make_image(f"{name}.png", size=(64, 64))
    (views / "a.png").write_bytes(b"no picture")
    _save(views / "b.png", size=(1, 1))
    _save(views / "c.png")
    _save(views / "c.jpg")
    problems = {Path(problem.where).name: problem for problem in scan_folder(clip_image_path=views).problems}
    assert list(problems) == ["c.png", "d.png", "a.png", "b.png"]
    assert "cannot be read" in problems["a.png"].what
    assert "1 x 1 pixels" in problems["b.png"].what
    assert "several images" in problems["c.png"].what and "c.jpg, c.png" in problems["c.png"].what
    assert "has no image for the adapter" in problems["d.png"].what and "looked for d.(" in problems["d.png"].what


def test_images_with_an_unreadable_view_are_skipped_on_request(
    folder: Path, views: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    for name in "ab":
        make_image(f"{name}.png", size=(64, 64))
    (views / "a.png").write_bytes(b"no picture")
    _save(views / "b.png")
    scan = scan_folder(clip_image_path=views, skip_unreadable=True)
    assert [example.path.name for example in scan.examples] == ["b.png"]
    assert "1 image skipped because the image for the adapter cannot be read: a.png" in scan.notices[0]


def test_another_view_is_noticed_by_a_resumed_run(
    folder: Path, views: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", size=(64, 64))
    found = []
    for width in (20, 21):
        _save(views / "a.png", size=(width, 10))
        found.append(scan_folder(clip_image_path=views).fingerprint([folder]))
    assert found[0] != found[1]
