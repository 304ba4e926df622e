"""Folders of some kind, such as output folders, found under the roots."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from ui.server.jobs.notes import NOTES_FILE
from ui.server.roots import Roots

JOB_FILE = "job.yaml"
MARKS = {"runs.jsonl", "events.jsonl", NOTES_FILE}
MOST_FOLDERS = 20_000
_PASSED_OVER = {"node_modules", "site-packages", "__pycache__", "state", "samples", "superseded"}
Found = TypeVar("Found")
_Known = tuple[int, tuple[str, ...], Found | None]


class FolderFinder(Generic[Found]):
    """Walks the roots. What lies in a folder whose time has not changed is remembered.

    Args:
        roots: where to look.
        look: gives the folders in a folder that are walked into, and what was found in it; None for nothing.
        has_roots: whether a root may be found itself.
        depth: of the folders below a root that are looked into.

    Attributes:
        is_cut: whether the last walk has ended before it had seen every folder, since there are too many.
    """

    def __init__(
        self,
        roots: Roots,
        look: Callable[[str], tuple[tuple[str, ...], Found | None]],
        *,
        has_roots: bool = False,
        depth: int = 4,
    ) -> None:
        self.roots = roots
        self.look = look
        self.has_roots = has_roots
        self.depth = depth
        self.is_cut = False
        self._known: dict[str, _Known[Found]] = {}

    def find(self) -> dict[Path, Found]:
        """Every folder in which something was found."""
        found: dict[Path, Found] = {}
        seen: dict[str, _Known[Found]] = {}
        self.is_cut = False
        for root in self.roots.folders:
            found.update(self._walk(str(root), 0, seen))
        self._known = seen
        return found

    def _walk(self, folder: str, depth: int, seen: dict[str, _Known[Found]]) -> Iterator[tuple[Path, Found]]:
        if len(seen) >= MOST_FOLDERS:
            self.is_cut = True
            return
        try:
            time = os.stat(folder).st_mtime_ns  # noqa: PTH116 - thousands of folders, again and again
            known = self._known.get(folder)
            if known is None or known[0] != time:
                known = (time, *self.look(folder))
        except OSError:  # deleted, or not ours to look into
            return
        seen[folder] = known
        _, inner, found = known
        if found is not None and (depth or self.has_roots):
            yield Path(folder), found
        if depth < self.depth:
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


def look_for_output(folder: str) -> tuple[tuple[str, ...], bool | None]:
    """The folders in a folder; and True if it is an output folder: it holds a record of runs, events, or notes."""
    inner, is_output = [], None
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in MARKS:
                is_output = True
            elif is_walked(entry):
                inner.append(entry.name)
    return tuple(sorted(inner)), is_output


def is_walked(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder in which others are looked for."""
    return entry.name[0] != "." and entry.name not in _PASSED_OVER and entry.is_dir(follow_symlinks=False)
