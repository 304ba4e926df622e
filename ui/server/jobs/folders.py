"""Output folders, found under the roots."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ui.server.jobs.notes import NOTES_FILE
from ui.server.roots import Roots

JOB_FILE = "job.yaml"
_MARKS = {"runs.jsonl", "events.jsonl", NOTES_FILE}
_DEEPEST = 4
_MOST_FOLDERS = 20_000
_PASSED_OVER = {"node_modules", "site-packages", "__pycache__", "state", "samples", "superseded"}


class FolderFinder:
    """Walks the roots. What lies in a folder whose time has not changed is remembered."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self._known: dict[str, tuple[int, tuple[str, ...], bool]] = {}

    def find(self) -> list[Path]:
        """Every output folder: one that holds a record of runs, an event log, or notes of this page."""
        found: list[Path] = []
        seen: dict[str, tuple[int, tuple[str, ...], bool]] = {}
        for root in self.roots.folders:
            found += self._walk(str(root), 0, seen)
        self._known = seen
        return found

    def _walk(self, folder: str, depth: int, seen: dict[str, tuple[int, tuple[str, ...], bool]]) -> Iterator[Path]:
        if len(seen) >= _MOST_FOLDERS:
            return
        try:
            time = os.stat(folder).st_mtime_ns  # noqa: PTH116 - thousands of folders, again and again
            known = self._known.get(folder)
            if known is None or known[0] != time:
                known = (time, *_look_into(folder))
        except OSError:  # deleted, or not ours to look into
            return
        seen[folder] = known
        _, inner, is_output = known
        if is_output and depth:
            yield Path(folder)
        if depth < _DEEPEST:
            for name in inner:
                yield from self._walk(f"{folder}{os.sep}{name}", depth + 1, seen)


def job_id(root: Path, folder: Path) -> str:
    """The id of the job that an output folder is of."""
    name = f"{root}/{folder.relative_to(root).as_posix()}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Identifies the current state of a file; None if there is no such file."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
    return None


def _look_into(folder: str) -> tuple[tuple[str, ...], bool]:
    inner, is_output = [], False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _MARKS:
                is_output = True
            elif entry.name[0] != "." and entry.name not in _PASSED_OVER and entry.is_dir(follow_symlinks=False):
                inner.append(entry.name)
    return tuple(sorted(inner)), is_output
