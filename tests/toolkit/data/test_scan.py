"""The scan of the datasets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image

from toolkit.config.dataset import DatasetConfig
from toolkit.data import Scan, describe_scan, scan_datasets
from toolkit.data.images import load_image
from toolkit.files import sha256_file

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]


def test_each_image_becomes_an_example_with_its_caption_and_bucket(
    make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    cat = make_image("cat.png", (128, 64), caption="a cat,\nasleep ")
    make_image("sub/dog.jpg", (64, 64), caption="a dog")
    scan = scan_folder(resolution=64, recursive=True)
    first, second = scan.examples
    assert (first.path, first.caption, first.content_hash) == (cat, "a cat,\nasleep", sha256_file(cat))
    assert (first.bucket, second.bucket) == ((80, 48), (64, 64))
    assert (second.caption, second.dropped_caption, second.loss_weight) == ("a dog", "", 1.0)
    assert scan.problems == () and scan.notices == ()


def test_nothing_in_the_dataset_folder_is_touched(folder: Path, make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("cat.png", caption="a cat")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")}
    scan_folder()
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")} == before


def test_two_scans_give_the_same(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    for number in range(20):
        make_image(f"{number}.png", (64 + number, 64), caption=str(number))
    assert scan_folder(num_repeats=2) == scan_folder(num_repeats=2)


def test_every_resolution_is_a_copy_of_the_dataset(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", (256, 256))
    make_image("b.png", (128, 128))
    scan = scan_folder(resolution=[64, 128, 256])
    assert [example.bucket[0] for example in scan.examples] == [64, 64, 128, 128, 256, 128]
    assert [table.resolution for table in scan.tables] == [64, 128, 256]


def test_repeats_and_flips_multiply_the_examples(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png")
    scan = scan_folder(num_repeats=3, flip_x=True, flip_y=True)
    assert len(scan.examples) == 12
    assert {(example.flip_x, example.flip_y) for example in scan.examples} == {(x, y) for x in (0, 1) for y in (0, 1)}
    assert len(scan_folder(flip_x=True).examples) == 2
    assert [example.flip_y for example in scan_folder(flip_y=True).examples] == [False, True]


def test_the_datasets_settings_reach_its_examples(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png")
    (example,) = scan_folder(caption_dropout_rate=0.25, random_crop=True, loss_multiplier=0.5).examples
    assert (example.caption_dropout_rate, example.random_crop, example.loss_weight) == (0.25, True, 0.5)


@pytest.mark.parametrize(
    ("default", "trigger", "caption"),
    [("a thing", None, "a thing"), ("a thing", "tok", "tok a thing"), (None, "tok", "tok"), ("", None, "")],
)
def test_a_missing_or_blank_caption_falls_back_and_is_counted(
    make_image: MakeImage, scan_folder: ScanFolder, default: str | None, trigger: str | None, caption: str
) -> None:
    make_image("a.png", caption="tok here")
    make_image("b.png")
    make_image("c.png", caption=" \n")
    scan = scan_folder(default_caption=default, trigger=trigger)
    assert [example.caption for example in scan.examples] == ["tok here", caption, caption]
    (notice,) = scan.notices
    assert "2 images without a caption" in notice and f'"{caption}"' in notice and "b.png, c.png" in notice
    assert scan.tables[0].num_captions == 1


def test_the_datasets_own_trigger_word_goes_before_the_jobs(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="a [trigger] cat")
    (example,) = scan_folder(trigger="job", trigger_word="own").examples
    assert (example.caption, example.dropped_caption) == ("a own cat", "own")


def test_a_regularisation_set_has_its_weight_and_no_added_trigger(folder: Path, make_image: MakeImage) -> None:
    make_image("a.png", caption="a cat")
    config = {"folder_path": folder, "resolution": 64, "loss_multiplier": 0.5}
    datasets = [DatasetConfig.model_validate({**config, "is_reg": is_reg}) for is_reg in (False, True)]
    scan = scan_datasets(datasets, divisor_px=16, trigger_word="tok", reg_weight=0.2)
    normal, regular = scan.examples
    assert (normal.caption, normal.loss_weight, normal.is_reg, normal.dataset_index) == ("tok a cat", 0.5, False, 0)
    assert (regular.caption, regular.loss_weight, regular.is_reg, regular.dataset_index) == ("a cat", 0.1, True, 1)
    assert (normal.dropped_caption, regular.dropped_caption) == ("tok", "")


@pytest.mark.parametrize(("is_reg", "trigger"), [(False, None), (True, None), (True, "tok")])
def test_images_without_any_words_are_a_problem_that_names_what_may_have_been_meant(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder, is_reg: bool, trigger: str | None
) -> None:
    make_image("a.png", caption="a cat")
    make_image("blank.png", caption="")
    make_image("b.png")
    (folder / "b.caption").write_text("a dog")
    scan = scan_folder(default_caption=None, is_reg=is_reg, trigger=trigger)
    (problem,) = scan.problems
    assert "1 image has no caption: b.png" in problem.what and "b.txt, b.png.txt" in problem.what
    assert "There is b.caption." in problem.what and "default_caption" in problem.what
    assert ("trigger_word" in problem.what) != is_reg
    (notice,) = scan.notices
    assert "1 image without a caption" in notice and notice.endswith(": blank.png"), "what is refused is not trained"


def test_images_need_no_captions_where_every_image_is_trained_on_the_trigger_word(
    folder: Path, make_image: MakeImage
) -> None:
    make_image("a.png")
    dataset = DatasetConfig.model_validate({"folder_path": folder, "resolution": 64})
    assert not scan_datasets([dataset], divisor_px=16, trigger_word=None, uses_captions=False).problems


def test_a_metadata_file_gives_captions_to_images_that_have_no_caption_file(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", caption="from its file")
    make_image("b.png")
    make_image("sub/c.png")
    lines = [
        {"file_name": "a.png", "text": "x"},
        {"file_name": "b.png", "prompt": "b"},
        {"file_name": "gone.png", "text": "x"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "sub" / "metadata.jsonl").write_text('{"file_name": "c.png", "caption": "c"}')
    scan = scan_folder(default_caption=None)
    assert [example.caption for example in scan.examples] == ["from its file", "b", "c"]
    assert not scan.problems and scan.tables[0].num_captions == 3
    assert any("listed in metadata.jsonl but missing: gone.png" in notice for notice in scan.notices)


def test_a_broken_line_of_a_metadata_file_is_a_problem_with_its_number(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "fine"}\n{"file_name": 5}\n{"file')
    problems = scan_folder().problems
    assert [problem.where.rpartition("metadata.jsonl: ")[2] for problem in problems] == ["line 2", "line 3"]


def test_animations_heic_files_and_small_images_are_mentioned(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    frames = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(folder / "moves.webp", save_all=True, append_images=frames[1:])
    make_image("small.png", (40, 40))
    make_image("large.png", (200, 200))
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    notices = "\n".join(scan_folder(resolution=[64, 128]).notices)
    assert "the first is used: moves.webp" in notices
    assert "Most Compatible" in notices and "phone.HEIC" in notices
    assert "1 image smaller than 64 x 64 pixels, trained at the original size: small.png" in notices
    assert "repeated at the same size for several resolutions: moves.webp, small.png" in notices


@pytest.mark.parametrize("name", ["a.avif", "a.jfif", "a.bmp", "a.tif", "a.TIFF"])
def test_every_common_kind_of_image_file_is_trained_on(folder: Path, scan_folder: ScanFolder, name: str) -> None:
    kind = {"jfif": "JPEG", "tif": "TIFF", "tiff": "TIFF"}.get(name[2:].lower())
    Image.new("RGB", (64, 64), (200, 60, 50)).save(folder / name, format=kind)
    (folder / "a.txt").write_text("a colour")
    (example,) = scan_folder().examples
    pixels = numpy.asarray(load_image(example, background=(0, 0, 0)))
    assert abs(pixels[5, 5].astype(int) - (200, 60, 50)).max() <= 3


def test_captions_may_have_another_ending(folder: Path, make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.b.png")
    (folder / "a.b.caption").write_text("found")
    assert scan_folder(caption_ext="caption").examples[0].caption == "found"


def test_a_json_dataset_gives_captions_and_files_beside_the_images_fill_in(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png", caption="file a")
    make_image("b.png", caption="file b")
    (folder / "set.json").write_text('{"a.png": {"caption": "json a"}, "b.png": {}}')
    scan = scan_folder(folder_path=folder / "set.json")
    assert [example.caption for example in scan.examples] == ["json a", "file b"]


def break_files(folder: Path) -> None:
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "page.webp").write_text("<html>")
    (folder / "gone.png").symlink_to("nowhere.png")


def test_every_unreadable_image_is_a_problem_with_its_name_and_reason(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("good.png")
    break_files(folder)
    problems = {Path(problem.where).name: problem.what for problem in scan_folder().problems}
    assert problems.keys() == {"cut.png", "empty.jpg", "page.webp", "gone.png"}
    assert "truncated" in problems["cut.png"] or "Truncated" in problems["cut.png"]
    assert (
        "empty" in problems["empty.jpg"]
        and "not a JPEG" in problems["page.webp"]
        and "No such file" in problems["gone.png"]
    )
    assert all("skip_unreadable: true" in what for what in problems.values())


def test_unreadable_images_are_skipped_on_request_and_counted(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("good.png", caption="good")
    break_files(folder)
    scan = scan_folder(skip_unreadable=True)
    assert scan.problems == ()
    assert [example.path.name for example in scan.examples] == ["good.png"]
    (notice,) = scan.notices
    assert "4 images skipped as unreadable" in notice and "empty.jpg (the file is empty)" in notice
    assert scan.tables[0].num_skipped == 4


def test_a_dataset_of_nothing_but_unreadable_images_is_a_problem_even_then(
    folder: Path, scan_folder: ScanFolder
) -> None:
    (folder / "empty.png").touch()
    (problem,) = scan_folder(skip_unreadable=True).problems
    assert problem.where == str(folder) and "no image that can be read" in problem.what


def test_an_empty_folder_is_a_problem(folder: Path, scan_folder: ScanFolder) -> None:
    (problem,) = scan_folder().problems
    assert problem.where == str(folder) and ".webp" in problem.what
    assert scan_folder().examples == ()


def test_a_caption_in_another_encoding_is_a_problem_with_file_and_byte(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    make_image("a.png")
    (folder / "a.txt").write_bytes("Grün".encode("latin-1"))
    (problem,) = scan_folder().problems
    assert problem.where == str(folder / "a.txt") and "byte 2 (0xfc)" in problem.what


def test_all_problems_of_all_datasets_come_at_once(tmp_path: Path, make_image: MakeImage, folder: Path) -> None:
    make_image("a.png")
    (folder / "b.png").touch()
    (folder / "a.txt").write_bytes(b"\xff")
    datasets = [
        DatasetConfig.model_validate({"folder_path": tmp_path / "none", "resolution": 64}),
        DatasetConfig.model_validate({"folder_path": folder, "resolution": [64, 16]}),
    ]
    wheres = [problem.where for problem in scan_datasets(datasets, divisor_px=32, trigger_word=None).problems]
    assert wheres == [
        str(tmp_path / "none"),
        str(folder / "b.png"),
        str(folder / "a.txt"),
        "datasets[1].resolution",
    ]


def test_images_that_are_enlarged_or_cropped_hard_are_mentioned(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("tiny.png", (9, 40), caption="x")
    make_image("stripe.png", (1000, 20), caption="x")
    notices = " / ".join(scan_folder(resolution=64).notices)
    assert "1 image smaller than 16 pixels on a side, scaled up: tiny.png" in notices
    assert "1 image losing a large part to the crop at resolution 64: stripe.png" in notices


def test_pictures_of_other_formats_are_mentioned(folder: Path, make_image: MakeImage, scan_folder: ScanFolder) -> None:
    make_image("a.png", caption="x")
    Image.new("RGB", (9, 9)).save(folder / "b.gif")
    (notice,) = scan_folder().notices
    assert "1 image in an unsupported format, not used" in notice and "b.gif" in notice


def test_a_long_list_of_files_is_shortened(make_image: MakeImage, scan_folder: ScanFolder) -> None:
    for number in range(9):
        make_image(f"{number}.png")
    (notice,) = scan_folder().notices
    assert notice.endswith("0.png, 1.png, 2.png, 3.png, 4.png and 4 more")


def test_the_report_shows_counts_buckets_and_the_length_of_an_epoch(
    folder: Path, make_image: MakeImage, scan_folder: ScanFolder
) -> None:
    for number in range(3):
        make_image(f"{number}.png", (64, 64), caption="x")
    make_image("wide.png", (128, 64))
    scan = scan_folder(resolution=96, num_repeats=2)
    lines = describe_scan(scan, batch_size=4, gradient_accumulation=2)
    assert lines[0] == f"{folder} at 96: 4 images, 3 captions found, 1 missing, 2 copies of each"
    assert [line.split() for line in lines[1:3]] == [["64", "x", "64", "6"], ["128", "x", "64", "2"]]
    assert lines[3] == "one epoch: 8 examples in 3 batches of up to 4: 1.5 steps"


@pytest.mark.parametrize(("uses_captions", "rate"), [(False, 0.05), (True, 1)], ids=["unloaded", "all dropped"])
def test_the_report_says_that_captions_are_not_used_and_how_many_there_are(
    folder: Path, make_image: MakeImage, uses_captions: bool, rate: float
) -> None:
    make_image("a.png", caption="x")
    make_image("b.png")
    dataset = DatasetConfig.model_validate({"folder_path": folder, "resolution": 64, "caption_dropout_rate": rate})
    scan = scan_datasets([dataset], divisor_px=16, trigger_word=None, uses_captions=uses_captions)
    assert not scan.problems and not scan.notices
    assert describe_scan(scan, batch_size=1)[0] == f"{folder} at 64: 2 images, CAPTIONS NOT USED (1 caption found)"


def test_scanning_does_not_import_torch() -> None:
    code = "import sys, toolkit.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
