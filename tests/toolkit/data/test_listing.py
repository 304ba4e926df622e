"""Which images a dataset names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from toolkit.data.captions.texts import CaptionTexts
from toolkit.data.sources.find import list_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(source: Path, base: Path) -> list[str]:
    listing = list_images(source)
    assert listing.problems == []
    return [path.relative_to(base).as_posix() for path in listing.images]


def test_a_folder_is_listed_with_its_subfolders_in_the_order_of_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "z.png", "b/c/2.jpg", "b/1.JPEG", "a.webp", "B.jpg", "a.txt", "note.md")
    assert names(tmp_path, tmp_path) == ["B.jpg", "a.webp", "b/1.JPEG", "b/c/2.jpg", "z.png"]


def test_hidden_files_and_cache_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".b.png", ".hidden/c.png", "_controls/a.png", "x/_latent_cache/a.png", "_t_e_cache/a.png")
    assert names(tmp_path, tmp_path) == ["a.png"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    touch(data, "sub/a.png")
    touch(elsewhere, "b.png")
    (data / "back").symlink_to(data)
    (data / "sub" / "up").symlink_to("..")
    (data / "self").symlink_to("self")
    (data / "linked").symlink_to(elsewhere)
    (data / "linked_again").symlink_to(elsewhere)
    (data / "c.png").symlink_to(elsewhere / "b.png")
    assert names(data, data) == ["c.png", "linked/b.png", "sub/a.png"]


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "odd.png/a.png")
    assert names(tmp_path, tmp_path) == ["odd.png/a.png"]


def test_names_with_special_letters_are_kept(tmp_path: Path) -> None:
    odd = ["[a] *?.png", "grün 🐦.png", "line\nbreak.png", "a.b.c.png", "n" * 250 + ".png"]
    touch(tmp_path, *odd)
    assert sorted(names(tmp_path, tmp_path)) == sorted(odd)


def test_pictures_of_other_formats_are_not_lost_from_sight(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.heic", "c.GIF", "d.txt")
    assert [path.name for path in list_images(tmp_path).others] == ["b.heic", "c.GIF"]


@pytest.mark.parametrize(
    ("name", "words"), [("none", "no such folder"), ("file.txt", "neither a folder"), ("", "contains no images")]
)
def test_a_dataset_that_cannot_be_listed_says_why(tmp_path: Path, name: str, words: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if name.endswith(".txt"):
        touch(folder, name)
    (problem,) = list_images(folder / name).problems
    assert words in problem.what and problem.where == str(folder / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    (problem,) = list_images(tmp_path).problems
    (tmp_path / "closed").chmod(0o700)
    assert problem.where.endswith("closed")


def dataset_file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "dataset.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_json_file_gives_images_and_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "sets/beside.png", "below_cwd.png", "absolute.png")
    monkeypatch.chdir(tmp_path)
    content = {
        "beside.png": {"caption": "one", "caption_short": "1"},
        "below_cwd.png": {"caption": " "},
        str(tmp_path / "absolute.png"): {},
    }
    listing = list_images(dataset_file(tmp_path / "sets", content))
    assert listing.problems == []
    assert sorted(path.name for path in listing.images) == ["absolute.png", "below_cwd.png", "beside.png"]
    assert all(path.exists() for path in listing.images)
    assert listing.captions == {tmp_path / "sets" / "beside.png": CaptionTexts(("one",), ("1",))}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a.png": {"caption": "x"', "not valid JSON"),
        ("[" * 200_000, "not valid JSON"),
        ('["a.png"]', "must be an object"),
        ({"a.png": "a dog"}, "must be an object with a text"),
        ({"a.png": {"caption": 3}}, "must be a text or a list of texts"),
        ({"a.txt": {"caption": "x"}}, "not an image file"),
        ({}, "contains no images"),
    ],
)
def test_a_bad_json_file_says_why(tmp_path: Path, content: Any, words: str) -> None:
    (problem,) = list_images(dataset_file(tmp_path, content)).problems
    assert words in str(problem) and str(tmp_path / "dataset.json") in problem.where


def test_a_json_file_in_another_encoding_says_where(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes('{"ü.png": {}}'.encode("latin-1"))
    (problem,) = list_images(path).problems
    assert "byte 2" in problem.what
