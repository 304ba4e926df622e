"""Captions and trigger words."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from toolkit.data.captions.files import CaptionFolder, read_caption
from toolkit.data.captions.texts import CaptionError, plain
from toolkit.data.captions.variants import put_trigger


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"a dog, on grass", "a dog, on grass"),
        (b"  a dog,on grass \r\n", "a dog,on grass"),
        (b"a dog\nsits \r\n\r\non  grass\n", "a dog\nsits\n\non  grass"),
        ("ein Grünspecht 🐦".encode(), "ein Grünspecht 🐦"),
        (codecs.BOM_UTF8 + b"a dog", "a dog"),
        (b"", ""),
        (b" \n\t\n", ""),
    ],
)
def test_a_caption_is_its_text_with_its_line_breaks(tmp_path: Path, data: bytes, caption: str) -> None:
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


@pytest.mark.parametrize(
    ("image", "extension", "caption"),
    [
        ("a.b.jpg", ".txt", "a.b.txt"),
        ("a.jpg", "caption", "a.caption"),
        ("IMG_1.JPG", ".txt", "IMG_1.TXT"),
        ("img_1.jpg", ".txt", "IMG_1.txt"),
        ("a.png", ".txt", "a.png.txt"),
        ("a.PNG", ".txt", "A.png.Txt"),
        ("cafe\u0301.png", ".txt", "caf\u00e9.txt"),
        ("caf\u00e9.png", ".txt", "cafe\u0301.txt"),
    ],
)
def test_a_caption_is_found_whatever_the_spelling_of_its_name(
    tmp_path: Path, image: str, extension: str, caption: str
) -> None:
    (tmp_path / caption).touch()
    (tmp_path / f"other{extension}").touch()
    assert CaptionFolder(tmp_path).find(tmp_path / image, extension) == tmp_path / caption


def test_the_name_without_the_images_extension_comes_first_and_as_it_is_written(tmp_path: Path) -> None:
    for name in ("a.txt", "A.TXT", "a.png.txt"):
        (tmp_path / name).touch()
    assert CaptionFolder(tmp_path).find(tmp_path / "a.png", ".txt") == tmp_path / "a.txt"
    assert CaptionFolder(tmp_path).find(tmp_path / "b.png", ".txt") is None


def test_two_captions_that_differ_in_letter_case_only_are_refused(tmp_path: Path) -> None:
    (tmp_path / "A.txt").touch()
    (tmp_path / "a.TXT").touch()
    with pytest.raises(CaptionError, match=r"several captions: A\.txt, a\.TXT"):
        CaptionFolder(tmp_path).find(tmp_path / "a.png", ".txt")


def test_files_that_may_have_been_meant_as_a_caption_are_named(tmp_path: Path) -> None:
    for name in ("a.caption", "imgae_7.txt", "unrelated.txt", "a.png"):
        (tmp_path / name).touch()
    assert CaptionFolder(tmp_path).near_misses(tmp_path / "a.png", ".txt") == ["a.caption"]
    assert CaptionFolder(tmp_path).near_misses(tmp_path / "image_7.png", ".txt") == ["imgae_7.txt"]


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


def test_white_space_around_a_text_and_at_the_ends_of_its_lines_goes() -> None:
    assert plain(" a,  b \r\n c ") == "a,  b\n c"
