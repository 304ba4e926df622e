"""Captions, file names and dataset lists of every sad kind, through the scan."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.reliability.bad_inputs.battery import expect_error, expect_result, fingerprint
from toolkit.config.dataset import DatasetConfig
from toolkit.data import scan_datasets
from toolkit.errors import JobError

Make = Callable[[Path], object]


def captions_of(source: Path, **options: object) -> dict[str, str]:
    """Captions by file name; the problems of a dataset are an error, as `--check` makes them one."""
    dataset = DatasetConfig.model_validate({"folder_path": source, "resolution": 64, "default_caption": "", **options})
    found = scan_datasets([dataset], divisor_px=16, trigger_word=None)
    if found.problems:
        raise JobError("job.yaml", found.problems)
    return {example.path.name: example.caption for example in found.examples}


def image(path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(path, "PNG")
    return path


RIGHT: dict[str, tuple[bytes, str]] = {
    "plain": (b"a red fox", "a red fox"),
    "empty": (b"", ""),
    "blank": (b" \n\t\r\n ", ""),
    "byte order mark": ("\ufeffa fox".encode(), "a fox"),
    "nothing but a byte order mark": (b"\xef\xbb\xbf", ""),
    "windows line ends": (b"a fox\r\nin snow\r\n", "a fox\nin snow"),
    "old mac line ends": (b"a fox\rin snow", "a fox\nin snow"),
    "unicode line ends": ("a fox\u2028in\u0085snow".encode(), "a fox\nin\nsnow"),
    "emoji": ("a 🦊 in ❄️".encode(), "a 🦊 in ❄️"),
    "flags and families": ("👨‍👩‍👧 🇺🇳".encode(), "👨‍👩‍👧 🇺🇳"),
    "right to left": ("ثعلب أحمر".encode(), "ثعلب أحمر"),
    "direction marks": ("\u202efox\u202c".encode(), "\u202efox\u202c"),
    "chinese": ("一只红狐狸".encode(), "一只红狐狸"),
    "decomposed letters": (unicodedata.normalize("NFD", "Füchsin").encode(), unicodedata.normalize("NFD", "Füchsin")),
    "private and unassigned characters": ("\ue000\U000e0fff".encode(), "\ue000\U000e0fff"),
    "escape sequences": (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    "yaml and json in it": (b'{"a": [1]} !!python/name:os.system', '{"a": [1]} !!python/name:os.system'),
    "placeholders without a trigger word": (b"a [trigger] fox [name]", "a fox"),
    "half of a placeholder": (b"a [trigger fox", "a [trigger fox"),
    "a variable": (b"${HOME} %s {0} $(ls)", "${HOME} %s {0} $(ls)"),
    "100 kB in one line": (b"fox " * 25_000, ("fox " * 25_000).strip()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_unusual_caption_is_the_text_that_was_written(name: str, tmp_path: Path) -> None:
    data, caption = RIGHT[name]
    image(tmp_path / "x.png").with_suffix(".txt").write_bytes(data)
    before = fingerprint(tmp_path)
    assert expect_result("captions", lambda: captions_of(tmp_path)) == {"x.png": caption}
    assert fingerprint(tmp_path) == before


def data(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 40_000_000_000)


WRONG: dict[str, tuple[Make, str]] = {
    "latin-1": (data("ein Fuß".encode("latin-1")), "byte 6 (0xdf) is not UTF-8; save the file as UTF-8"),
    "windows-1252": (data(b"fox \x93quoted\x94"), "byte 4 (0x93) is not UTF-8"),
    "shift jis": (data("狐".encode("shift_jis")), "is not UTF-8"),
    "utf-16": (data("a fox".encode("utf-16")), "byte 0 (0xff) is not UTF-8"),
    "utf-16 without mark": (data("a fox".encode("utf-16-le")), "as in UTF-16; save the file as UTF-8"),
    "utf-32": (data("a fox".encode("utf-32")), "is not UTF-8"),
    "zero byte": (data(b"a fox\0"), "byte 5 is a zero"),
    "cut inside a letter": (data("Fuß".encode()[:-1]), "byte 2 (0xc3) is not UTF-8"),
    "surrogates": (data(b"\xed\xa0\x80"), "is not UTF-8"),
    "overlong": (data(b"\xc0\xaf"), "is not UTF-8"),
    "binary": (data(bytes(range(256))), "save the file as UTF-8"),
    "a picture": (data(b"\x89PNG\r\n\x1a\n"), "is not UTF-8"),
    "1 MB in one line": (data(b"fox " * 250_000), "shorten it"),
    "40 GB": (sparse, "shorten it"),
    "folder": (lambda path: path.mkdir(), "write the caption into a text file"),
    "pipe": (os.mkfifo, "write the caption into a text file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "write the caption into a text file"),
    "link to itself": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_caption_that_is_no_text_is_named_with_the_place(name: str, tmp_path: Path) -> None:
    make, words = WRONG[name]
    path = image(tmp_path / "x.png").with_suffix(".txt")
    make(path)
    expect_error("captions", lambda: captions_of(tmp_path), str(path), words)


STEMS = {
    "newline": "a\nb",
    "tab and return": "a\t\rb",
    "leading and trailing space": " a ",
    "emoji": "🦊",
    "right to left": "ثعلب",
    "quotes": "\"a'b`",
    "shell": "$(touch canary);a",
    "brackets": "a[1]{b}*?",
    "percent": "%s%n%(name)s",
    "backslash": "a\\b",
    "dash first": "--help",
    "two dots": "a.b",
    "many dots": "a...b",
    "255 bytes": "x" * 251,
    "255 bytes of umlauts": "ü" * 125 + "x",
    "escape": "\x1b[2J",
    "not utf-8": os.fsdecode(b"\xff\xfe"),
    "looks like a pickle": "model.pkl",
    "only digits": "000",
    "windows device": "con",
}


@pytest.mark.parametrize("name", STEMS)
def test_any_file_name_finds_its_own_caption(name: str, tmp_path: Path) -> None:
    stem = STEMS[name]
    image(tmp_path / f"{stem}.png")
    (tmp_path / f"{stem}.txt").write_text("its own", encoding="utf-8")
    assert expect_result("file names", lambda: captions_of(tmp_path)) == {f"{stem}.png": "its own"}


def test_twins_keep_their_own_captions(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    stems = [composed, decomposed, "cat", "Cat", "CAT", "a", "a.b", "x.png"]
    for stem in stems:
        image(tmp_path / f"{stem}.png")
        (tmp_path / f"{stem}.txt").write_text(f"caption of {stem}", encoding="utf-8")
    if len(list(tmp_path.iterdir())) < 2 * len(stems):
        pytest.skip("this file system takes twins for one file")
    found = expect_result("file names", lambda: captions_of(tmp_path))
    assert found == {f"{stem}.png": f"caption of {stem}" for stem in stems}


def test_the_same_name_in_two_folders_keeps_its_own_caption(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        image(tmp_path / folder / "1.png").with_suffix(".txt").write_text(f"of {folder}", encoding="utf-8")
    dataset = DatasetConfig.model_validate({"folder_path": tmp_path, "resolution": 64, "recursive": True})
    found = expect_result("file names", lambda: scan_datasets([dataset], divisor_px=16, trigger_word=None))
    assert [(one.path.parent.name, one.caption) for one in found.examples] == [("a", "of a"), ("b", "of b")]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "up").symlink_to(tmp_path)
    (tmp_path / "inner" / "self").symlink_to(tmp_path / "inner")
    image(tmp_path / "inner" / "x.png")
    assert expect_result("file names", lambda: captions_of(tmp_path, recursive=True)) == {"x.png": ""}


def test_folders_one_inside_the_other_to_the_limit_of_the_system_are_read(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(400):
        folder = folder / "deeper"
        folder.mkdir()
    image(folder / "x.png")
    assert expect_result("file names", lambda: captions_of(tmp_path, recursive=True)) == {"x.png": ""}


GOOD = {"x.png": {"caption": "a fox"}}
# Content of a dataset list; x.png exists. The error names the list and holds these words.
LISTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not valid JSON"),
    "cut": (json.dumps(GOOD).encode()[:-3], "line 1 column"),
    "broken in line 3": (b'{"x.png": {"caption": "a"},\n"y.png": {"caption": "b"},\n"z.png" {}\n}', "line 3"),
    "json lines": (b'{"x.png": {"caption": "a"}}\n{"y.png": {"caption": "b"}}\n', "line 2"),
    "json lines, broken at line 2": (b'{"x.png": {"caption": "a"}}\n{"y.png": {"cap\n', "line 2"),
    "list": (b'[{"file": "x.png"}]', 'must be an object: {"image.jpg"'),
    "null": (b"null", "must be an object"),
    "number of 5000 digits": (b'{"x.png": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    "nested too deeply": (b"[" * 100_000, "is not valid JSON"),
    "latin-1": ('{"x.png": {"caption": "Fuß"}}'.encode("latin-1"), "save the file as UTF-8"),
    "utf-16": (json.dumps(GOOD).encode("utf-16"), "save the file as UTF-8"),
    "binary": (bytes(range(256)), "save the file as UTF-8"),
    "caption that is a number": (b'{"x.png": {"caption": 3}}', '"caption": "..."'),
    "caption that is a list of numbers": (b'{"x.png": {"caption": [1]}}', '"caption": "..."'),
    "entry that is a text": (b'{"x.png": "a fox"}', '"caption": "..."'),
    "entry that is null": (b'{"x.png": null}', '"caption": "..."'),
    "zero byte in a caption": (b'{"x.png": {"caption": "a\\u0000b"}}', "write the characters themselves"),
    "half a character in a caption": (b'{"x.png": {"caption": "\\ud800"}}', "write the characters themselves"),
    "zero byte in a name": (b'{"x\\u0000.png": {}}', "write the characters themselves"),
    "half a character in a name": (b'{"\\udc80.png": {}}', "write the characters themselves"),
    "name of 5000 letters": (b'{"' + b"x" * 5000 + b'.png": {}}', "File name too long"),
    "empty name": (b'{"": {}}', "is not an image file"),
    "name of no image": (b'{"x.txt": {}}', "is not an image file"),
    "name of a pickle": (b'{"x.pt": {}}', "is not an image file"),
    "image that is not there": (b'{"y.png": {}}', "No such file"),
    "one image twice": (b'{"x.png": {"caption": "a"}, "x.png": {"caption": "b"}}', "keep one"),
    "one image under two names": (b'{"x.png": {"caption": "a"}, "./x.png": {"caption": "b"}}', "keep one"),
    "no image at all": (b"{}", "contains no images"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_dataset_list_that_is_wrong_is_named_with_the_place(name: str, tmp_path: Path) -> None:
    content, words = LISTS[name]
    image(tmp_path / "x.png")
    path = tmp_path / "list.json"
    path.write_bytes(content)
    expect_error("dataset lists", lambda: captions_of(path), str(tmp_path), words)


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".pt", ".safetensors", ".png"])
def test_a_file_that_is_no_dataset_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_bytes(b'{"x.png": {}}\n')
    expect_error(
        "dataset lists", lambda: captions_of(path), str(path), "neither a folder of images nor a .json, .jsonl"
    )


def test_a_dataset_list_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    (tmp_path / "list.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert expect_result("dataset lists", lambda: captions_of(tmp_path / "list.json")) == {"x.png": "a fox"}


# Lines of a `.jsonl` list; x.png exists. The error names the list, or the image, and holds these words.
LINES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "contains no images"),
    "cut": (b'{"file_name": "x.png", "te', "line 1: is not valid JSON"),
    "a list": (b'["x.png", "a fox"]', "line 1: must be an object with a file name"),
    "without a name": (b'{"text": "a fox"}', "line 1: must be an object with a file name"),
    "a name that is a number": (b'{"file_name": 3, "text": "a fox"}', "line 1: must be an object with a file name"),
    "a caption that is a number": (b'{"file_name": "x.png", "text": 3}', "line 1: `text` must be a text or a list"),
    "half a character": (b'{"file_name": "x.png", "text": "\\ud800"}', "write the characters themselves"),
    "an image that is not there": (b'{"file_name": "y.png"}', "No such file"),
    "an image twice": (b'{"file_name": "x.png"}\n{"path": "./x.png"}', "has 2 entries; keep one"),
    "no image": (b'{"file_name": "x.pt"}', "is not an image file"),
    "utf-16": ('{"file_name": "x.png"}'.encode("utf-16"), "save the file as UTF-8"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_list_of_lines_that_is_wrong_is_named_with_the_place(name: str, tmp_path: Path) -> None:
    content, words = LINES[name]
    image(tmp_path / "x.png")
    path = tmp_path / "list.jsonl"
    path.write_bytes(content)
    expect_error("dataset lists", lambda: captions_of(path), str(tmp_path), words)
