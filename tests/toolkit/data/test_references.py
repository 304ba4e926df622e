"""References of a dataset, as the scan finds them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from toolkit.cards import ReferenceLimits
from toolkit.config.dataset import DatasetConfig
from toolkit.data import Scan, scan_datasets
from toolkit.data.references import ReferenceRules
from toolkit.data.scan_result import describe_scan

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]


@pytest.fixture
def control(tmp_path: Path) -> Callable[..., Path]:
    """Writes a reference below `tmp_path`; returns its folder."""

    def make(name: str, size: tuple[int, int] = (64, 64)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "blue").save(path)
        return path.parent

    return make


def references(scan: Scan) -> list[list[str]]:
    return [[reference.path.name for reference in example.references] for example in scan.examples]


def test_references_are_found_by_stem_in_the_order_of_the_folders(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png", caption="x")
    make_image("b.png", caption="x")
    one, two = (control(f"{folder}/{name}") for folder, name in (("one", "a.jpg"), ("two", "a.webp")))
    control("one/b.png"), control("two/b.png"), control("one/c.png")
    scan = scan_folder(control_path=[one, two])
    assert scan.problems == () and scan.notices == ()
    assert references(scan) == [["a.jpg", "a.webp"], ["b.png", "b.png"]]
    assert references(scan_folder(control_path=one)) == [["a.jpg"], ["b.png"]]
    assert references(scan_folder(control_path=one, control_path_1=two)) == [["a.webp"], ["b.png"]]
    assert references(scan_folder(control_path_3=one, control_path_10=two)) == references(scan)


def test_images_of_one_name_in_two_subfolders_keep_their_own_references(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path], tmp_path: Path
) -> None:
    make_image("a/1.png", caption="x"), make_image("b/1.png", caption="x"), make_image("c/2.png", caption="x")
    control("control/a/1.png", (64, 80)), control("control/b/1.png", (80, 64)), control("control/2.png")
    scan = scan_folder(control_path=tmp_path / "control", recursive=True)
    parents = [example.references[0].path.parent.name for example in scan.examples]
    assert parents == ["a", "b", "control"]


def test_an_ambiguous_reference_is_a_problem(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    image = make_image("a.png")
    folder = control("control/a.png")
    control("control/a.jpg")
    (problem,) = scan_folder(control_path=folder).problems
    assert problem.where == str(image) and "a.jpg, a.png" in problem.what


def test_every_missing_reference_is_a_problem_that_names_the_image_and_the_folder(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png")
    missing = [make_image("b.png"), make_image("c.png")]
    folder = control("control/a.png")
    problems = scan_folder(control_path=folder).problems
    assert [problem.where for problem in problems] == [str(path) for path in missing]
    assert str(folder) in problems[0].what and "b.(" in problems[0].what
    assert "allow_missing_control: true" in problems[0].what


def test_missing_references_are_allowed_on_request_and_mentioned(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png", caption="x"), make_image("b.png", caption="x")
    one, two = control("one/a.png"), control("two/a.png")
    control("two/b.png")
    scan = scan_folder(control_path=[one, two], allow_missing_control=True)
    assert scan.problems == ()
    assert references(scan) == [["a.png", "a.png"], ["b.png"]]
    assert scan.notices == (f"{scan.tables[0].source}: 1 image without a reference in {one}: b.png",)


def test_an_unusable_reference_is_a_problem_with_its_own_name(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png"), make_image("b.png"), make_image("c.png")
    folder = control("control/a.png", (63, 64))
    control("control/b.png", (64, 600))
    (folder / "c.png").write_bytes(b"no picture")
    problems = {Path(problem.where).name: problem.what for problem in scan_folder(control_path=folder).problems}
    assert problems.keys() == {"a.png", "b.png", "c.png"}
    assert "at least 64 pixels" in problems["a.png"] and "8 times" in problems["b.png"]
    assert "skip_unreadable: true" in problems["c.png"]


def test_images_with_an_unreadable_reference_are_skipped_on_request(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png", caption="x"), make_image("b.png", caption="x")
    folder = control("control/a.png")
    (folder / "b.png").write_bytes(b"no picture")
    scan = scan_folder(control_path=folder, skip_unreadable=True)
    assert scan.problems == () and references(scan) == [["a.png"]]
    assert "1 image skipped because a reference cannot be read: b.png" in scan.notices[0]
    (folder / "a.png").write_bytes(b"no picture")
    (problem,) = scan_folder(control_path=folder, skip_unreadable=True).problems
    assert "no image whose references" in problem.what


def test_control_folders_inside_the_dataset_are_not_trained_on(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    image = make_image("a.png", caption="x")
    (folder / "before").mkdir()
    shutil.copy(image, folder / "before" / "a.png")
    assert len(scan_folder(recursive=True).examples) == 2
    assert references(scan_folder(control_path=folder / "before", recursive=True)) == [["a.png"]]


def test_references_keep_their_shape_and_are_flipped_with_their_image(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png", caption="x")
    folder = control("control/a.png", (200, 100))
    plain, flipped = scan_folder(control_path=folder, flip_x=True).examples
    assert plain.layout == flipped.layout == ((64, 64), (192, 96))
    assert [one.references[0].flip_x for one in (plain, flipped)] == [False, True]
    dataset = DatasetConfig.model_validate(
        {"folder_path": plain.path.parent, "control_path": folder, "resolution": [32, 64]}
    )
    rules = ReferenceRules(ReferenceLimits(), 16, match_target=True)
    scan = scan_datasets([dataset], divisor_px=16, trigger_word=None, rules=rules)
    assert [example.layout[1] for example in scan.examples] == [(48, 16), (96, 48)]


def test_the_report_counts_references(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path]
) -> None:
    make_image("a.png", caption="x")
    scan = scan_folder(control_path=control("control/a.png"))
    assert describe_scan(scan, batch_size=1)[0].endswith("1 caption found, up to 1 reference each")


def test_two_scans_find_the_same_problems_in_the_same_order(
    make_image: MakeImage, scan_folder: ScanFolder, control: Callable[..., Path], tmp_path: Path
) -> None:
    for number in random.Random(0).sample(range(30), 30):
        make_image(f"{number}.png")
        control(f"one/{number}.png", (16, 16))
    wheres = [problem.where for problem in scan_folder(control_path=tmp_path / "one").problems]
    assert len(wheres) == 30
    assert wheres == sorted(wheres)
