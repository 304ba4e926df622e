"""The report on datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy
import pytest
from PIL import Image

from tests.tiny import write_job
from toolkit.data.__main__ import main
from toolkit.data.report.duplicates import near_groups
from toolkit.data.report.looks import looks_of
from toolkit.files import sha256_file

MakeImage = Callable[..., Path]


def noise(seed: int, size: tuple[int, int] = (128, 96)) -> Image.Image:
    """A smooth random picture."""
    small = numpy.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=numpy.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def alike(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    hashes = {path: sha256_file(path) for path in paths}
    return near_groups(hashes, looks_of(hashes))


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Twelve pictures, of which some are the same or nearly."""
    for seed in range(12):
        noise(seed).save(folder / f"{seed:02d}.png")
        (folder / f"{seed:02d}.txt").write_text(f"picture, number {seed}" if seed else "picture, number 1")
    (folder / "00 again.png").write_bytes((folder / "00.png").read_bytes())
    noise(1).save(folder / "01 as jpeg.jpg", quality=60)
    noise(2).resize((96, 72)).save(folder / "02 smaller.png")
    noise(3).crop((2, 2, 126, 94)).save(folder / "03 cropped.png")
    for name in ("00 again", "01 as jpeg", "02 smaller", "03 cropped"):
        (folder / f"{name}.txt").write_text(name)
    return folder


def test_a_report_says_what_is_in_a_folder(pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page, data = tmp_path / "report.html", tmp_path / "report.json"
    before = sorted(path.name for path in pictures.iterdir())
    assert main(["report", str(pictures), "--html", str(page), "--json", str(data)]) == 0
    text = capsys.readouterr().out
    assert f"{pictures}: 16 images" in text and "captions: 16 of 16 images, 15 distinct" in text
    assert '2 images have the caption "picture, number 1"' in text
    (found,) = json.loads(data.read_text())["datasets"]
    assert [[Path(path).name for path in group] for group in found["exact"]] == [["00 again.png", "00.png"]]
    names = [[Path(path).name for path in group] for group in found["near"]]
    assert names == [["01 as jpeg.jpg", "01.png"], ["02 smaller.png", "02.png"], ["03 cropped.png", "03.png"]]
    assert found["buckets"][0] == [[128, 96], 14] and found["common"][0] == ["picture", 11]
    html = page.read_text()
    assert html.count("<figure>") == 8 + 16 and not re.search(r"(src|href)=\"?http", html)
    assert sorted(path.name for path in pictures.iterdir()) == before


def test_pictures_of_one_colour_are_alike_only_in_that_colour(folder: Path, make_image: MakeImage) -> None:
    paths = [make_image(f"{n}.png", color=color) for n, color in enumerate(("red", "blue", (250, 0, 0)))]
    assert alike(paths) == [(paths[0], paths[2])]


def test_other_pictures_are_not_alike(folder: Path) -> None:
    for seed in range(100):
        noise(seed).save(folder / f"{seed}.png")
    assert alike(folder.iterdir()) == []


def test_a_report_on_a_job_names_what_misses_its_partner(
    tmp_path: Path, make_image: MakeImage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for name in ("a", "b"):
        make_image(f"{name}.png", caption="x")
    for name in ("a", "old"):
        noise(1).save(before / f"{name}.png")
    dataset = {"folder_path": str(folder), "control_path": str(before), "resolution": 32}
    job = write_job(tmp_path, datasets=[dataset])
    assert main(["report", str(job)]) == 1
    text = capsys.readouterr().out
    assert f"in {before} without an image: old.png" in text and "b.png: has no reference" in text


def test_captions_cannot_become_part_of_the_page(make_image: MakeImage, folder: Path, tmp_path: Path) -> None:
    make_image("a.png", caption="<script>alert(1)</script>")
    assert main(["report", str(folder), "--html", str(tmp_path / "x.html")]) == 0
    assert "<script" not in (tmp_path / "x.html").read_text()


def test_what_cannot_be_reported_on_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
