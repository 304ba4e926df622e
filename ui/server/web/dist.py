"""The built front end: its files, under stable names, and whether it is older than its sources."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from pathlib import Path

from fastapi.responses import Response

STAMP = "stamp.json"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_SOURCES = ("src", "public")
_SOURCE_FILES = ("index.html", "package-lock.json")
_ABSENT = (
    "<!doctype html><meta charset=utf-8><title>FLUX.2 trainer</title>"
    "<p>The page has not been built: run <code>npm ci && npm run build</code> in <code>ui/</code>."
)


def find_asset(dist: Path, path: str, known: str | None) -> Response:
    """A file of the front end; `index.html` where there is none of this name."""
    files = _files(dist)
    name = path if path in files else "index.html"
    if name not in files:
        return Response(_ABSENT, 200, media_type="text/html; charset=utf-8")
    content = files[name].read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    if known == etag:
        return Response(status_code=304, headers=headers)
    kind = _TYPES.get(files[name].suffix, "application/octet-stream")
    return Response(content, media_type=kind, headers=headers)


def is_stale(dist: Path) -> bool:
    """Whether the front end was built from other sources than those that lie beside it; checked once a minute."""
    return _is_stale(dist, int(time.monotonic() // 60))


@functools.lru_cache(maxsize=4)
def _is_stale(dist: Path, minute: int) -> bool:
    try:
        built = json.loads((dist / STAMP).read_text(encoding="ascii"))["sources"]
        return bool(built != source_hash(dist.parent))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def source_hash(folder: Path) -> str:
    """Hash of all that the front end is built from; `scripts/stamp.mjs` computes the same."""
    paths = [path for place in _SOURCES for path in (folder / place).rglob("*") if path.is_file()]
    names = sorted([*(path.relative_to(folder).as_posix() for path in paths), *_SOURCE_FILES])
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()


def _files(dist: Path) -> dict[str, Path]:
    """Every file by the path that asks for it: no request can name another."""
    try:
        changed = dist.stat().st_mtime_ns
    except OSError:
        return {}
    return _listed(dist, changed)


@functools.lru_cache(maxsize=4)
def _listed(dist: Path, changed: int) -> dict[str, Path]:
    real = Path(os.path.realpath(dist))
    found = {path.relative_to(dist).as_posix(): path for path in dist.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if Path(os.path.realpath(path)).is_relative_to(real)}
