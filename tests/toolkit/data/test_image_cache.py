"""Images are not read twice, and never taken for what they were."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from toolkit.cards import ReferenceLimits
from toolkit.config import AdapterConfig, DatasetConfig
from toolkit.data import image_files
from toolkit.data.controls import with_controls
from toolkit.data.image_files import ImageCache, ImageError, ImageInfo, inspect_image
from toolkit.data.references import ReferenceRules
from toolkit.data.scan import scan_datasets


def _draw(path: Path, width: int = 8, color: int = 0) -> Path:
    Image.new("L", (width, 8), color).save(path)
    return path


def test_a_file_is_read_once(tmp_path: Path, read: list[str]) -> None:
    cache, path = ImageCache(), _draw(tmp_path / "a.png")
    assert cache.inspect(path) == cache.inspect(path) == inspect_image(path)
    assert read == ["a.png"]


def test_a_file_is_read_again_when_it_has_changed_even_at_its_size_and_with_its_time_set_back(
    tmp_path: Path, read: list[str]
) -> None:
    cache, path = ImageCache(), _draw(tmp_path / "a.bmp")
    before, times = cache.inspect(path), path.stat()
    _draw(path, color=255)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = cache.inspect(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert after.content_hash != before.content_hash and after == inspect_image(path)
    _draw(tmp_path / "b.bmp", width=9).replace(path)
    assert cache.inspect(path).width == 9
    assert len(read) == 3


def test_a_file_that_was_changed_just_now_is_not_trusted(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_SETTLED_NS", 3_600 * 10**9)
    cache, path = ImageCache(), _draw(tmp_path / "a.png")
    cache.inspect(path)
    cache.inspect(path)
    assert len(read) == 2


def test_what_cannot_be_read_is_not_remembered(tmp_path: Path, read: list[str]) -> None:
    cache, path = ImageCache(), tmp_path / "a.png"
    for _ in range(2):
        with pytest.raises(ImageError):
            cache.inspect(path)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError):
        cache.inspect(path)
    assert cache.inspect(_draw(path)).width == 8


def test_the_oldest_are_forgotten(tmp_path: Path, read: list[str]) -> None:
    cache = ImageCache(most=2)
    paths = [_draw(tmp_path / f"{name}.png") for name in "abc"]
    for path in (*paths, paths[2], paths[0]):
        cache.inspect(path)
    assert read == ["a.png", "b.png", "c.png", "a.png"]


def test_a_second_scan_decodes_nothing_and_finds_the_same(tmp_path: Path, read: list[str]) -> None:
    for number in range(20):
        _draw(tmp_path / f"{number}.png", width=64, color=number).with_suffix(".txt").write_text("x")
    dataset = DatasetConfig.model_validate({"folder_path": tmp_path, "resolution": 16})
    scans = [scan_datasets([dataset], divisor_px=8, trigger_word=None) for _ in range(2)]
    assert scans[0] == scans[1] and len(read) == 20


@pytest.mark.parametrize("num_images", [200])
def test_a_second_scan_takes_half_a_millisecond_for_an_image(tmp_path: Path, read: list[str], num_images: int) -> None:
    for number in range(num_images):
        _draw(tmp_path / f"{number}.png", width=64, color=number % 256).with_suffix(".txt").write_text("x")
    dataset = DatasetConfig.model_validate({"folder_path": tmp_path, "resolution": 16})
    scan_datasets([dataset], divisor_px=8, trigger_word=None)
    started = time.process_time()
    scan_datasets([dataset], divisor_px=8, trigger_word=None)
    assert time.process_time() - started < num_images * 0.0005


def test_images_and_their_control_pictures_are_read_in_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, threading.Thread] = {}

    def inspect(path: Path) -> ImageInfo:
        threads[f"{path.parent.name}/{path.name}"] = threading.current_thread()
        return inspect_image(path)

    monkeypatch.setattr(image_files, "inspect_image", inspect)
    for folder in ("images", "control"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            _draw(tmp_path / folder / f"{index}.png", width=32)
    settings = {"folder_path": str(tmp_path / "images"), "control_path": str(tmp_path / "control"), "resolution": 16}
    dataset, adapter = DatasetConfig.model_validate(settings), AdapterConfig.model_validate({"type": "control_lora"})
    rules = ReferenceRules(ReferenceLimits(), 8, num_controls=1)
    scan = scan_datasets([dataset], divisor_px=8, trigger_word="x", rules=rules)
    assert all(example.controls for example in with_controls(scan, [dataset], adapter).examples)
    assert len(threads) == 6 and threading.main_thread() not in threads.values()
