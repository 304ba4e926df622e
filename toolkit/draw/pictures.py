"""The pictures of a drawing job, each in a file whose name says what was drawn, so that none is drawn twice."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import SampleItem
from toolkit.files import sha256_json


@dataclass(frozen=True)
class Picture:
    """One picture of a drawing job.

    Attributes:
        index: of its prompt, from 0.
        item: what to draw; its seed may be -1, for a random one.
        column: of the sheet, from 0; 0 without a sheet.
        file: name of its file: the number of its prompt, from 1, and a digest of all that it depends on.
    """

    index: int
    item: SampleItem
    file: str
    column: int = 0


def pictures_of(
    items: Sequence[SampleItem], facts: Mapping[str, Any], *, extension: str, column: int = 0
) -> tuple[Picture, ...]:
    """The pictures of a job, or of a column of its sheet, in order.

    Args:
        items: what to draw.
        facts: what else the pictures depend on, as plain JSON.
        extension: `jpg`, `png` or `webp`.
        column: of the sheet.
    """
    digits = max(4, len(str(len(items))))
    contents = {path: digest_of(path) for path in dict.fromkeys(path for item in items for path in _images(item))}
    found = []
    for index, item in enumerate(items):
        own = {key: getattr(item, key) for key in SampleItem.__annotations__ if key not in ("views", "controls")}
        own["references"] = [contents[path] for path in item.references]
        if item.views or item.controls:
            own["views"] = [(number, contents[path]) for number, path in item.views]
            own["controls"] = [contents[path] for path in item.controls]
        digest = sha256_json({**facts, "item": own, "index": index if item.seed < 0 else None})[:8]
        found.append(Picture(index, item, f"{index + 1:0{digits}d}_{digest}.{extension}", column))
    return tuple(found)


def _images(item: SampleItem) -> Iterator[Path]:
    yield from (*item.references, *item.controls)
    yield from (path for _, path in item.views)


def missing(pictures: Sequence[Picture], folder: Path) -> tuple[Picture, ...]:
    """The pictures that are not in a folder yet, each once."""
    files = {picture.file: picture for picture in reversed(pictures) if not (folder / picture.file).is_file()}
    return tuple(reversed(files.values()))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex; empty for a file that cannot be read, which the check reports."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def identity_of(source: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the weight files at a path; empty for a hub id."""
    files = [source] if source.is_file() else sorted(source.rglob("*.safetensors"))  # none if it is not a folder
    facts = [(path, path.stat()) for path in files]
    return [(path.name, fact.st_size, fact.st_mtime_ns) for path, fact in facts]


def data_hash(path: Path) -> str:
    """SHA-256, in hex, of a safetensors file without its header, by which other programs know a LoRA."""
    return _data_hash(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _data_hash(path: Path, changed_ns: int) -> str:
    """Each picture asks for it, of files that have not changed since the last."""
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()
