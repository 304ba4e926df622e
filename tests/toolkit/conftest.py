"""Small datasets and folders for user extensions, made on the spot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit.config.dataset import DatasetConfig
from toolkit.data import Example, Scan, scan_datasets
from toolkit.data.buckets import fit_to_bucket
from toolkit.extension import Root
from toolkit.files import sha256_file

MakeImage = Callable[..., Path]
ScanFolder = Callable[..., Scan]
_numbers = itertools.count()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty dataset folder."""
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def make_image(folder: Path) -> MakeImage:
    """Writes an image of one colour, with a caption if one is given, into the dataset folder."""

    def make(name: str, size: tuple[int, int] = (64, 64), *, caption: str | None = None, color: Any = "red") -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color).save(path)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return make


@pytest.fixture
def scan_folder(folder: Path) -> ScanFolder:
    """Scans the dataset folder with a divisor of 16; `trigger` is the process's, the rest goes to the dataset.

    A caption may be missing, unless the test says `default_caption=None`.
    """

    def scan(*, trigger: str | None = None, **fields: Any) -> Scan:
        fields = {"folder_path": folder, "resolution": 64, "default_caption": "", **fields}
        return scan_datasets([DatasetConfig.model_validate(fields)], divisor_px=16, trigger_word=trigger)

    return scan


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """An example of an image file at a resolution, centre crop, not flipped."""

    def make(path: Path, size: tuple[int, int], *, resolution: int = 64, **fields: Any) -> Example:
        plain: dict[str, Any] = {
            "path": path,
            "content_hash": sha256_file(path) if path.exists() else "",
            "caption": "",
            "dropped_caption": "",
            "caption_dropout_rate": 0.0,
            "fit": fit_to_bucket(*size, resolution=resolution, divisor=16),
            "random_crop": False,
            "flip_x": False,
            "flip_y": False,
            "loss_weight": 1.0,
            "is_reg": False,
            "dataset_index": 0,
        }
        return Example(**{**plain, **fields})

    return make


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """An empty folder for user extensions, under a package name that no other test has used."""
    name = f"user_extensions_{next(_numbers)}"
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    return Root(name, tmp_path / name, is_built_in=False)
