"""`runs.jsonl`: a record of every start of a job, what it was started with and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.output.alive import ProcessIdentity, this_process

RUNS_FILE = "runs.jsonl"
_MOST_BYTES = 1 << 24  # more than ten thousand starts


class RunRecord:
    """The record of one start. Each entry is one short line in a single write, so a kill damages at most the last one.

    A record that cannot be written, for example on a full disk, does not stop the run.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.path = folder / RUNS_FILE
        self.facts = facts
        self._process = this_process()
        self._ending: dict[str, Any] = {"status": "failed"}

    def __enter__(self) -> Self:
        self._append("start", process=asdict(self._process), **self.facts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._append("end", **self._ending)

    def resumed(self, step: int, **facts: Any) -> None:
        """Record that the run is ready for its first step."""
        self._append("resumed", step=step, **facts)

    def ends(self, status: str, **facts: Any) -> None:
        """Set how the run ends; this is written when the block is left."""
        self._ending = {"status": status, **facts}

    def _append(self, kind: str, **fields: Any) -> None:
        start = f"{self._process.machine}-{self._process.pid}-{self._process.started}"
        line = json.dumps({"kind": kind, "run": start, "time": round(time.time(), 3), **fields}, ensure_ascii=True)
        with contextlib.suppress(OSError), self.path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_torn = size > 0 and file.read(1) != b"\n"
            file.write(("\n" * is_torn + line + "\n").encode())


@dataclass
class Run:
    """One start, as read from the record.

    Attributes:
        start: entry written at the start.
        resumed: entry written before the first step; empty if the run did not get that far.
        end: entry that says how the run ended; empty if it was not written.
    """

    start: dict[str, Any]
    resumed: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """`done`, `failed`, `interrupted`, `running`, or `killed` if the run ended without recording how."""
        if self.end:
            return str(self.end.get("status", "unknown"))
        try:
            is_alive = ProcessIdentity(**self.start["process"]).is_alive()
        except (KeyError, TypeError):
            return "unknown"
        return (
            "killed"
            if is_alive is False
            else "running"
            if is_alive
            else "end unknown (on another machine, or before a reboot)"
        )


def read_runs(folder: Path) -> list[Run]:
    """All starts in order; only the latest if the record is very long. Damaged lines are skipped."""
    runs: dict[str, Run] = {}
    order: list[Run] = []
    path = folder / RUNS_FILE
    try:  # only regular files: a pipe or a device might never end
        content = _end_of(path) if path.is_file() else b""
    except OSError:
        return []
    for line in content.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if not isinstance(entry, dict):
                continue
            name, kind = str(entry.get("run")), entry.get("kind")
            if kind == "start":
                runs[name] = Run(entry)
                order.append(runs[name])
            elif kind in ("resumed", "end") and name in runs:
                setattr(runs[name], kind, entry)
    return order


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_BYTES))
        return file.read(_MOST_BYTES)
