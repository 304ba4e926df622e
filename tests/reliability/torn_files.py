"""Files that carry a final name and are not whole: after a kill there may be none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from PIL import Image
from safetensors import safe_open

from toolkit.files import TEMPORARY_PREFIX


def torn_files(folder: Path) -> list[str]:
    """One line for each file under `folder` that cannot be read to its end. Names of half-written files are excused."""
    torn = []
    for path in sorted(folder.rglob("*")):
        is_temporary = any(part.startswith(TEMPORARY_PREFIX) for part in path.relative_to(folder).parts)
        if path.suffix in _READERS and path.is_file() and not is_temporary:
            try:
                _READERS[path.suffix](path)
            except Exception as error:
                torn.append(f"{path.relative_to(folder)} torn ({type(error).__name__}: {error})")
    return torn


def _read_tensors(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        file.metadata()


def _read_image(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


_READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": _read_tensors,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".jpg": _read_image,
    ".png": _read_image,
}
