"""What a start learns of images is known to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from toolkit.data import image_files, images
from toolkit.data.examples import ViewImage
from toolkit.data.image_files import ImageCache, ImageInfo
from toolkit.data.sources.known import KnownFiles
from toolkit.errors import UserError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(found):
        Image.new("L", (8 + number, 8)).save(path)
    return found


def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(on_disk=KnownFiles(lambda: tmp_path / "known" / "images.sqlite"))


def test_a_second_start_reads_only_what_has_changed(tmp_path: Path, paths: list[Path], read: list[str]) -> None:
    first = cache(tmp_path).inspect_all(paths)
    assert sorted(read) == [path.name for path in paths]
    read.clear()
    Image.new("L", (99, 8)).save(paths[3])
    paths[4].unlink()
    second = cache(tmp_path).inspect_all(paths[:4])
    assert read == ["3.png"] and {p: second[p] for p in paths[:3]} == {p: first[p] for p in paths[:3]}
    info = second[paths[3]]
    assert isinstance(info, ImageInfo) and info.width == 99


def test_a_scan_that_is_stopped_is_gone_on_with(
    tmp_path: Path, paths: list[Path], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_SAVED_AT_ONCE", 2)
    killed = cache(tmp_path)
    for path in paths[:4]:
        killed.inspect(path)
    read.clear()
    cache(tmp_path).inspect_all(paths)
    assert read == ["4.png"]


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_damaged_file_of_facts_is_made_anew(
    tmp_path: Path, paths: list[Path], read: list[str], content: bytes
) -> None:
    file = tmp_path / "known" / "images.sqlite"
    file.parent.mkdir()
    file.write_bytes(content)
    for _ in range(2):
        assert len(cache(tmp_path).inspect_all(paths)) == 5
    read.clear()
    cache(tmp_path).inspect_all(paths)
    assert read == []


def test_without_a_place_for_facts_images_are_read_each_time(
    tmp_path: Path, paths: list[Path], read: list[str]
) -> None:
    (tmp_path / "known").write_text("a file")
    for _ in range(2):
        assert len(cache(tmp_path).inspect_all(paths)) == 5
    assert len(read) == 10


def test_an_image_whose_content_is_not_what_was_known_is_read_again_at_the_next_start(
    tmp_path: Path, paths: list[Path], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = cache(tmp_path)
    monkeypatch.setattr(images, "IMAGES", mine)
    mine.inspect_all(paths)
    read.clear()
    with pytest.raises(UserError, match="has changed since the job started"):
        images.open_upright(ViewImage(paths[0], "another hash"))
    cache(tmp_path).inspect_all(paths)
    assert read == ["0.png"]


def test_a_long_scan_says_how_far_it_is(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache(tmp_path).inspect_all(paths)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(image_files, "_SAID_EVERY_S", 0)
    cache(tmp_path).inspect_all(paths)
    assert capsys.readouterr().err.splitlines()[-1] == "images looked at: 5 of 5"
