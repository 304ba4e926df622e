"""A fingerprint of a component's files, used in the keys of cache entries."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.weights.layouts import ComponentFiles

_CONFIGURATION = (".json", ".jinja", ".model", ".txt")
_SAMPLE_BYTES = 1 << 20


def fingerprint(files: ComponentFiles) -> str:
    """Hex digest of a component's files: names, sizes, all of small files, and the start, middle and end of large ones.

    Hashing 60 GB in full would take minutes. The sizes, headers and samples of weight files differ between any two
    models met in practice, including fine-tunes of one another.
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
