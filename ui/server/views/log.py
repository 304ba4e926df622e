"""Pages of a log of any length: its lines are found once, and then only those that are asked for are read."""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from toolkit.output.figures import number
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.jobs.launch import LOG_FILE
from ui.server.schemas import LogPage
from ui.server.words import clean, moment, printable

_EVERY = 64  # lines between two places that are remembered
_BLOCK = 1 << 22
_MOST_MATCHES = 10_000
_LONGEST_LINE = 4_000
_KEPT = 16


class LineIndex:
    """Where the lines of a growing file begin: every 64th."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._reset((0, 0))

    def _reset(self, identity: tuple[int, int]) -> None:
        self._identity = identity
        self._places = array("Q", [0])
        self.num_lines = 0
        self._end = 0

    def update(self) -> None:
        """Read what was added."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            if identity != self._identity or status.st_size < self._end:
                self._reset(identity)
            file.seek(self._end)
            while block := file.read(_BLOCK):
                start = 0
                while (at := block.find(b"\n", start)) >= 0:
                    self.num_lines += 1
                    start = at + 1
                    if self.num_lines % _EVERY == 0:
                        self._places.append(self._end + start)
                if start == 0 and len(block) < _BLOCK:
                    break  # a line that is still being written
                self._end += start or len(block)
                file.seek(self._end)

    def lines(self, first: int, count: int) -> list[str]:
        """Some lines, as far as they are whole."""
        last = min(first + count, self.num_lines)
        if first >= last:
            return []
        found: list[str] = []
        with self.path.open("rb") as file:
            file.seek(self._places[first // _EVERY])
            for number in range(first - first % _EVERY, last):
                line = file.readline()
                if number >= first:
                    found.append(shown(line))
        return found

    def find(self, text: str) -> list[int]:
        """Numbers of the lines that contain a text, in any case of letters."""
        wanted, found = text.casefold().encode("utf-8", "replace"), []
        number = 0
        with self.path.open("rb") as file:
            while number < self.num_lines:
                lines = file.readlines(_BLOCK)
                if not lines:
                    break
                block = b"".join(lines)
                if wanted in _folded(block):
                    for offset, line in enumerate(lines):
                        if wanted in _folded(line):
                            found.append(number + offset)
                            if len(found) >= _MOST_MATCHES:
                                return found
                number += len(lines)
        return [line for line in found if line < self.num_lines]


_indexes: OrderedDict[Path, LineIndex] = OrderedDict()
_indexes_lock = threading.Lock()


def log_page(job: Job, first: int | None, count: int, query: str) -> LogPage:
    """Some lines of a log: of what its processes have printed, or where nobody has kept that, of its messages."""
    path = job.folder / LOG_FILE
    if not path.is_file():
        return _messages(job, first, count, query)
    with _indexes_lock:
        index = _indexes.setdefault(path, LineIndex(path))
        _indexes.move_to_end(path)
        while len(_indexes) > _KEPT:
            _indexes.popitem(last=False)
    with index.lock:
        index.update()
        start = max(0, index.num_lines - count) if first is None else first
        matches = index.find(query) if query else []
        return LogPage(first=start, lines=index.lines(start, count), num_lines=index.num_lines, matches=matches)


def shown(line: bytes) -> str:
    """A line as text: of a bar that was drawn again and again its last state, and nothing that steers a screen."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    text = next((state for state in reversed(text.split("\r")) if state.strip()), "")
    return clean(printable(text[:_LONGEST_LINE]))


def _folded(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").casefold().encode("utf-8") if not text.isascii() else text.lower()


def _messages(job: Job, first: int | None, count: int, query: str) -> LogPage:
    lines = list(_message_lines(job))
    start = max(0, len(lines) - count) if first is None else first
    wanted = query.casefold()
    matches = [number for number, line in enumerate(lines) if wanted in line.casefold()][:_MOST_MATCHES]
    return LogPage(
        first=start, lines=lines[start : start + count], num_lines=len(lines), matches=matches if query else []
    )


def _message_lines(job: Job) -> Iterator[str]:
    for event in events_of(job.folder / EVENTS_FILE, "message", "warning", "error"):
        kind = event.get("kind")
        text = event.get("message") if kind == "error" else event.get("text")
        if isinstance(text, str):
            mark = "" if kind == "message" else f"{kind}: "
            for line in f"{mark}{text}".splitlines():
                yield clean(printable(f"{moment(number(event.get('time')))}  {line}"[:_LONGEST_LINE]))
