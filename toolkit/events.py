"""The event log of a job: one JSON line for everything a terminal, a logger or a page may want to show."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class EventLog:
    """Appends events to `events.jsonl`; a reader may follow along while the job runs.

    Each line holds `time` (seconds since 1970), `kind` (`job`, `stage`, `step`, `sample`, `checkpoint`, `warning`,
    `error`, `memory`, `done`) and the fields of that kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A file name that is not UTF-8 holds surrogates; written as \udcxx they are still JSON.
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        if not _ends_a_line(self.path):  # a crash cut the last line short; it must not take the next one with it
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. A step costs one short write; nothing is synced or rewritten.

        A number that is not finite is written as null: JSON knows no NaN, and pages could not read the line.
        """
        event = {"time": round(time.time(), 3), "kind": kind, **{key: _finite(value) for key, value in fields.items()}}
        line = json.dumps(event, ensure_ascii=False, default=str)
        self._file.write(line + "\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order. A line cut short by a crash is passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # zeros after a power cut, a number of thousands of digits
                continue
            if isinstance(event, dict):
                yield event


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
