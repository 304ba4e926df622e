"""What tests of files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.data import image_files
from toolkit.data.image_files import ImageInfo, inspect_image


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that have been read."""
    names: list[str] = []

    def inspect(path: Path) -> ImageInfo:
        names.append(path.name)
        return inspect_image(path)

    monkeypatch.setattr(image_files, "inspect_image", inspect)
    monkeypatch.setattr(image_files, "_SETTLED_NS", -1)
    return names
