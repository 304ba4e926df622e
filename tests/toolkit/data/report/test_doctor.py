"""What may spoil a training: each kind of finding, where it belongs and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageFilter

from tests.tiny import write_job
from toolkit.data.__main__ import main
from toolkit.data.report import looks
from toolkit.data.report.doctor import CHECKS, repeated_parts
from toolkit.data.report.looks import look_at, looks_of
from toolkit.files import sha256_file

SIZE_PX = 256


def scene(seed: int, size: tuple[int, int] = (SIZE_PX, SIZE_PX)) -> Image.Image:
    """A picture with sharp edges and fine detail, as a photo has: overlapping boxes with some noise."""
    random = numpy.random.default_rng(seed)
    pixels = numpy.full((size[1], size[0], 3), 128.0)
    for _ in range(40):
        x, y = random.integers(0, size[0]), random.integers(0, size[1])
        pixels[y : y + 60, x : x + 60] = random.integers(20, 235, 3)
    pixels += random.normal(0, 3, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


SPOILED = {
    "blurred": scene(1).filter(ImageFilter.GaussianBlur(3)),
    "dark": scene(2).point(lambda level: level // 16),
    "bright": scene(3).point(lambda level: 250 + level // 60),
    "flat": scene(4).point(lambda level: 126 + level // 80),
    "tiny": scene(5, (150, 150)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good pictures, and one spoiled in each way; their captions differ."""
    made = tmp_path / "pictures"
    made.mkdir()
    for number in range(10, 16):
        scene(number).save(made / f"good {number}.png")
    for kind, image in SPOILED.items():
        image.save(made / f"{kind}.png")
    for path in list(made.glob("*.png")):
        path.with_suffix(".txt").write_text(f"a zorbo, {path.stem}", encoding="utf-8")
    return made


def findings(folder: Path, *more: str) -> set[tuple[str, str]]:
    """(kind, name of the picture) of all findings."""
    data = folder.parent / "report.json"
    main(["report", str(folder), "--resolution", str(SIZE_PX), "--json", str(data), *more])
    (found,) = json.loads(data.read_text())["datasets"]
    return {(finding["kind"], Path(finding["path"]).stem) for finding in found["findings"]}


def test_each_spoiled_picture_is_found_and_no_good_one(folder: Path) -> None:
    assert findings(folder) == {(kind, kind) for kind in SPOILED}


def test_a_crop_that_cuts_much_off_is_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    scene(6, (512, 256)).save(tmp_path / "pictures" / "wide.png")
    dataset = {"folder_path": str(tmp_path / "pictures"), "resolution": 256, "default_caption": "x"}
    for square in (False, True):
        job = write_job(tmp_path, datasets=[dataset | {"square_crop": square}])
        assert main(["report", str(job), "--json", str(tmp_path / "x.json")]) == 0
        (found,) = json.loads((tmp_path / "x.json").read_text())["datasets"]
        assert [finding["kind"] for finding in found["findings"]] == ["cropped"] * square


def test_copies_are_found_and_one_of_equal_files_is_left_alone(folder: Path) -> None:
    (folder / "good 10 again.png").write_bytes((folder / "good 10.png").read_bytes())
    scene(11).save(folder / "good 11 again.jpg", quality=70)
    for name in ("good 10 again", "good 11 again"):
        (folder / f"{name}.txt").write_text(name, encoding="utf-8")
    found = findings(folder) - {(kind, kind) for kind in SPOILED}
    assert len([1 for kind, _ in found if kind == "copy"]) == 1
    assert {name for kind, name in found if kind == "alike"} == {"good 11", "good 11 again"}


def test_captions_are_looked_at(folder: Path) -> None:
    texts = {10: "", 11: "a zorbo " * 400, 12: "the same", 13: "the same", 14: "without it"}
    for number, text in texts.items():
        (folder / f"good {number}.txt").write_text(text, encoding="utf-8")
    (folder / "good 15.txt").unlink()
    found = findings(folder, "--trigger-word", "zorbo") - {(kind, kind) for kind in SPOILED}
    assert found == {
        ("caption missing", "good 15"),
        ("caption missing", "good 10"),
        ("caption long", "good 11"),
        ("caption shared", "good 12"),
        ("caption shared", "good 13"),
        *(("trigger missing", f"good {number}") for number in (12, 13, 14)),
    }


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ([f"zorbo, a photo, number {n}" for n in range(10)], ["a photo"]),
        ([f"zorbo, number {n}" for n in range(10)], []),
        (["zorbo, a photo"] * 4, []),
    ],
)
def test_a_part_of_most_captions_is_named_but_for_the_trigger(captions: Sequence[str], expected: list[str]) -> None:
    assert [part for part, _ in repeated_parts(captions, trigger_word="zorbo")] == expected


def test_the_report_tells_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = folder.parent / "page.html"
    assert main(["report", str(folder), "--resolution", str(SIZE_PX), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    for kind in SPOILED:
        assert f"{CHECKS[kind].title}: {kind}.png" in text
        assert CHECKS[kind].advice in text
        assert f">{CHECKS[kind].title}</span>" in page.read_text(encoding="utf-8")


def test_a_second_report_opens_no_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {path: sha256_file(path) for path in folder.glob("*.png")}
    first = looks_of(hashes)
    assert len(first) == 11

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(looks, "look_at", fail)
    renamed = {path.with_name(f"moved {path.name}"): content for path, content in hashes.items()}
    assert list(looks_of(renamed).values()) == list(first.values())


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_what_cannot_be_read_has_no_look(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert look_at(tmp_path / "x.png") is None
    assert looks_of({tmp_path / "x.png": sha256_file(tmp_path / "x.png")}) == {}


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_any_size_has_a_look(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "x.png")
    look = look_at(tmp_path / "x.png")
    assert look is not None
    assert look.blur == 0
