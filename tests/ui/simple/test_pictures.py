"""ui.simple.pictures"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from toolkit.errors import UserError
from ui.simple.pictures import add_files, captions, write_captions


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_dropped_files_become_a_dataset(tmp_path: Path) -> None:
    caption = tmp_path / "a.txt"
    caption.write_text("a red square\n", encoding="utf-8")
    assert add_files(tmp_path / "set", [picture(tmp_path / "a.png"), caption, picture(tmp_path / "b.png")]) == []
    assert captions(tmp_path / "set") == [("a.png", "a red square"), ("b.png", "")]


def test_what_cannot_be_used_is_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.png"
    wrong.write_text("<svg/>", encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text("", encoding="utf-8")
    refused = add_files(tmp_path / "set", [wrong, page, picture(tmp_path / "a.png"), picture(tmp_path / "x" / "A.png")])
    assert [line.partition(":")[0] for line in refused] == ["wrong.png", "page.html", "A.png"]
    assert "already a file" in refused[2]
    assert [name for name, _ in captions(tmp_path / "set")] == ["a.png"]
    assert not list((tmp_path / "set").glob(".part-*"))


def test_only_changed_captions_are_written(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("kept", encoding="utf-8")
    assert write_captions(tmp_path, [["a.png", " new "], ["b.png", "kept"]], {"a.png": "", "b.png": "kept"}) == []
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new\n"
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == "kept"


def test_a_caption_of_no_picture_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match=r'no picture "\.\./b\.png"'):
        write_captions(tmp_path, [["a.png", "new"], ["../b.png", "x"]], {})
    assert not (tmp_path / "a.txt").exists()


def test_a_caption_changed_elsewhere_is_not_overwritten_and_the_second_writer_is_warned(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    seen = dict(captions(tmp_path))
    assert write_captions(tmp_path, [["a.png", "of the first tab"], ["b.png", ""]], seen) == []
    (clash,) = write_captions(tmp_path, [["a.png", "of the second"], ["b.png", "a blue one"]], seen)
    assert "of the first tab" in str(clash) and "of the second" in str(clash)
    assert captions(tmp_path) == [("a.png", "of the first tab"), ("b.png", "a blue one")]


def test_a_caption_that_a_tab_has_not_touched_stays_as_another_has_written_it(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert write_captions(tmp_path, [["a.png", "new"]], {"a.png": ""}) == []
    assert write_captions(tmp_path, [["a.png", ""]], {"a.png": ""}) == []
    assert captions(tmp_path) == [("a.png", "new")]
