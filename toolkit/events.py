"""The event log of a job: one JSON line for everything a terminal, a logger or a page may want to show."""

from __future__ import annotations

import json
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
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. A step costs one short write; nothing is synced or rewritten."""
        line = json.dumps({"time": round(time.time(), 3), "kind": kind, **fields}, ensure_ascii=False, default=str)
        self._file.write(line + "\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order. A line cut short by a crash is passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event
