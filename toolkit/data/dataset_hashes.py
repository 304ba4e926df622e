"""Hashes of a dataset's files, so that a resumed run can report what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.data.examples import Example
from toolkit.files import sha256_json


def fingerprint(examples: Sequence[Example], sources: Sequence[Path]) -> dict[str, str]:
    """A short hash of every image together with its caption and references, by the image's name in the dataset.

    Args:
        examples: the scanned examples; copies of an image share an entry.
        sources: the folder or JSON file of each dataset.
    """
    found: dict[str, str] = {}
    for example in examples:
        content = [example.content_hash, example.caption, *(picture.content_hash for picture in example.references)]
        found[_name(example, sources)] = sha256_json(content)[:16]
    return found


def _name(example: Example, sources: Sequence[Path]) -> str:
    source = sources[example.dataset_index]
    folder = source if source.is_dir() else source.parent
    path = example.path
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    return name if len(sources) == 1 else f"{example.dataset_index}:{name}"
