"""A short name for a component's files that changes when they do: part of the names of cache entries."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.weights.layouts import ComponentFiles

_CONFIGURATION = (".json", ".jinja", ".model", ".txt")
_SAMPLE_BYTES = 1 << 20


def fingerprint(files: ComponentFiles) -> str:
    """Hex digest of a component's files: names, sizes, small files whole, and beginning, middle and end of large ones.

    Reading 60 GB to name a cache entry would cost minutes. Headers, sizes and these samples of each weight file differ
    between any two models met in practice, fine-tunes of one another included.
    """
    digest = hashlib.sha256()
    for path in (*_configuration(files), *files.weights):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            if size > 2 * _SAMPLE_BYTES:
                file.seek(size // 2)
                digest.update(file.read(_SAMPLE_BYTES))
            if size > _SAMPLE_BYTES:
                file.seek(max(_SAMPLE_BYTES, size - _SAMPLE_BYTES))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _configuration(files: ComponentFiles) -> list[Path]:
    if files.folder is None:
        return []
    return sorted(path for path in files.folder.iterdir() if path.is_file() and path.suffix in _CONFIGURATION)
