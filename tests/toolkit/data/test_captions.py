"""Captions and trigger words."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from toolkit.data.captions import CaptionError, caption_file, one_line, put_trigger, read_caption


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"a dog, on grass", "a dog, on grass"),
        (b"  a dog,on grass \r\n", "a dog,on grass"),
        (b"a dog\nsits\r\n\r\non grass\n", "a dog sits on grass"),
        ("ein Grünspecht 🐦".encode(), "ein Grünspecht 🐦"),
        (codecs.BOM_UTF8 + b"a dog", "a dog"),
        (b"", ""),
        (b" \n\t\n", ""),
    ],
)
def test_a_caption_is_its_text_on_one_line(tmp_path: Path, data: bytes, caption: str) -> None:
    assert read_caption(written(tmp_path, data)) == caption


@pytest.mark.parametrize(
    ("data", "byte"),
    [
        ("ein Grünspecht".encode("latin-1"), "byte 6 (0xfc)"),
        ("a dog".encode("utf-16"), "byte 0 (0xff)"),
        ("a dog".encode("utf-16-le"), "byte 1 is a zero"),
        (b"a dog\xe2\x82", "byte 5 (0xe2)"),
    ],
)
def test_a_caption_in_another_encoding_is_refused_with_the_byte(tmp_path: Path, data: bytes, byte: str) -> None:
    with pytest.raises(CaptionError) as error:
        read_caption(written(tmp_path, data))
    assert byte in str(error.value) and "UTF-8" in str(error.value)


def test_a_folder_in_the_place_of_a_caption_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptionError):
        read_caption(tmp_path)


def test_a_caption_file_has_the_images_name_without_its_last_ending() -> None:
    assert caption_file(Path("x/a.b.jpg"), ".txt") == Path("x/a.b.txt")
    assert caption_file(Path("x/a.jpg"), "caption") == Path("x/a.caption")


@pytest.mark.parametrize(
    ("caption", "trigger", "result"),
    [
        ("a photo of [trigger]", "p3r5on", "a photo of p3r5on"),
        ("[name] and [trigger]", "p3r5on", "p3r5on and p3r5on"),
        ("a photo of [trigger] sitting", None, "a photo of sitting"),
        ("a dog", "p3r5on", "p3r5on a dog"),
        ("p3r5onal things", "p3r5on", "p3r5onal things"),
        ("P3r5on", "p3r5on", "p3r5on P3r5on"),
        ("", "p3r5on", "p3r5on"),
        ("", None, ""),
        ("a dog, on grass", None, "a dog, on grass"),
    ],
)
def test_the_trigger_word_is_put_in(caption: str, trigger: str | None, result: str) -> None:
    assert put_trigger(caption, trigger, must_have=True) == result


def test_regularisation_captions_get_no_trigger_word_they_do_not_ask_for() -> None:
    assert put_trigger("a dog", "p3r5on", must_have=False) == "a dog"
    assert put_trigger("a [trigger]", "p3r5on", must_have=False) == "a p3r5on"


def test_one_line_leaves_no_double_space() -> None:
    assert one_line(" a,  b\n c ") == "a, b c"
