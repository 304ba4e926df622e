"""Reads the events of a run in progress as they are written."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ui.server.jobs.folders import stamp

_MOST_BYTES = 4_000_000  # at a time
_KEPT_SEARCHES = 12


class Follower:
    """Keeps `events.jsonl` open and reads on at its end; see `toolkit.output.events` for the rules."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def poll(self) -> list[dict[str, Any]]:
        """The events that were written since the last call; of the first call, all that the newest file holds."""
        return [event for batch in self.batches() for event in batch]

    def batches(self, *, with_older: bool = False) -> Iterator[list[dict[str, Any]]]:
        """The same, a few megabytes at a time: a long log is never held as a whole.

        Args:
            with_older: of the first call, the older files too, before the newest.
        """
        if self._file is None:
            if not self._open():
                return
            if with_older:
                yield from self._older()
        assert self._file is not None
        yield from self._read(self._file)
        if self._is_replaced():
            yield from self._read(self._file)
            self.close()
            if self._open():
                yield from self._read(self._file)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> bool:
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError:
            return False
        return True

    def _is_replaced(self) -> bool:
        assert self._file is not None
        try:
            now, open_one = self.path.stat(), os.fstat(self._file.fileno())
        except OSError:  # between two files, or the folder is gone
            return False
        return not os.path.samestat(now, open_one) or open_one.st_size < self._file.tell()

    def _older(self) -> Iterator[list[dict[str, Any]]]:
        """What is in older files. The open one may just have become one of them: it is read through its handle."""
        assert self._file is not None
        own = os.fstat(self._file.fileno())
        for path in _older_files(self.path):
            with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
                if not os.path.samestat(own, os.fstat(file.fileno())):
                    yield from self._read(file)
            self._rest = b""

    def _read(self, file: BinaryIO) -> Iterator[list[dict[str, Any]]]:
        with contextlib.suppress(OSError):
            while content := file.read(_MOST_BYTES):
                *lines, self._rest = (self._rest + content).split(b"\n")
                yield parse_lines(lines)


_found: OrderedDict[tuple[Path, tuple[str, ...]], tuple[Any, list[dict[str, Any]]]] = OrderedDict()
_found_lock = threading.Lock()


def events_of(path: Path, *kinds: str) -> list[dict[str, Any]]:
    """The events of some kinds in a whole log, older files first. A log that has not changed is not read again.

    Args:
        path: `events.jsonl`.
        kinds: of events.
    """
    files = [*_older_files(path), path]
    stamps = [stamp(file) for file in files]
    with _found_lock:
        known = _found.get((path, kinds))
        if known is not None and known[0] == stamps:
            _found.move_to_end((path, kinds))
            return known[1]
    events = list(_search(files, kinds))
    with _found_lock:
        _found[path, kinds] = stamps, events
        while len(_found) > _KEPT_SEARCHES:
            _found.popitem(last=False)
    return events


def _search(files: list[Path], kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Only lines that name one of the kinds are parsed."""
    marks = [f'"kind": "{kind}"'.encode() for kind in kinds]
    for file in files:
        with contextlib.suppress(OSError), file.open("rb", buffering=0) as opened:
            rest = b""
            while content := opened.read(_MOST_BYTES):
                whole, newline, rest = (rest + content).rpartition(b"\n")
                lines = _marked(whole + newline, marks)
                yield from (event for event in parse_lines(lines) if event.get("kind") in kinds)


def _older_files(path: Path) -> list[Path]:
    older = [other for other in path.parent.glob("events.*.jsonl") if other.suffixes[0][1:].isdecimal()]
    return sorted(older, key=lambda other: int(other.suffixes[0][1:]))


def _marked(content: bytes, marks: list[bytes]) -> list[bytes]:
    """The whole lines that hold one of the marks. The others are not even cut out: they are a hundred times as many."""
    spans: dict[int, int] = {}
    for mark in marks:
        at = content.find(mark)
        while at >= 0:
            end = content.find(b"\n", at)
            if end < 0:
                break
            spans[content.rfind(b"\n", 0, at) + 1] = end
            at = content.find(mark, end)
    return [content[start : spans[start]] for start in sorted(spans)]


def parse_lines(lines: list[bytes]) -> list[dict[str, Any]]:
    """The events in whole lines; anything else is skipped."""
    try:
        together = json.loads(b"[%s]" % b",".join(filter(None, lines)))
    except (ValueError, RecursionError):  # one of them is broken: which one?
        together = _one_by_one(lines)
    return [event for event in together if isinstance(event, dict)]


def _one_by_one(lines: list[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
