"""The new events of a run that goes on, read as they are written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_MOST_BYTES = 4_000_000  # at a time


class Follower:
    """Keeps `events.jsonl` open and reads on at its end; see `toolkit.output.events` for the rules."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def poll(self) -> list[dict[str, Any]]:
        """The events that were written since the last call; of the first call, all that the newest file holds."""
        events: list[dict[str, Any]] = []
        if self._file is None and not self._open():
            return events
        assert self._file is not None
        events += self._read(self._file)
        if self._is_replaced():
            events += self._read(self._file)
            self.close()
            if self._open():
                events += self._read(self._file)
        return events

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

    def _read(self, file: BinaryIO) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        try:
            while content := file.read(_MOST_BYTES):
                *lines, self._rest = (self._rest + content).split(b"\n")
                events += parse_lines(lines)
        except OSError:
            return events
        return events


def events_of(path: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """The events of some kinds in a whole log, older files first. Only their lines are parsed.

    Args:
        path: `events.jsonl`.
        kinds: of events.
    """
    marks = [f'"kind": "{kind}"'.encode() for kind in kinds]
    older = [other for other in path.parent.glob("events.*.jsonl") if other.suffixes[0][1:].isdecimal()]
    for file in [*sorted(older, key=lambda other: int(other.suffixes[0][1:])), path]:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        lines = [line for line in content.split(b"\n") if any(mark in line for mark in marks)]
        yield from (event for event in parse_lines(lines) if event.get("kind") in kinds)


def parse_lines(lines: list[bytes]) -> list[dict[str, Any]]:
    """The events in whole lines; what is none is passed over."""
    events = []
    for line in lines:
        try:
            event = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
