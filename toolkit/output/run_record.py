"""`runs.jsonl`: a record of every start of a job, what it was started with and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.output.alive import Fate, ProcessIdentity, this_process
from toolkit.output.events import append_event, newest_events
from toolkit.output.lock import FolderLost

RUNS_FILE = "runs.jsonl"
EXIT_CODES = {"done": 0, "failed": 1, "refused": 2, "interrupted": 130, "stopped at once": 130}
_FATES: dict[Fate, str] = {
    "alive": "running",
    "gone": "killed",
    "rebooted": "ended by a reboot",
    "elsewhere": "another machine",
}
_MOST_BYTES = 1 << 24  # more than ten thousand starts


class RunRecord:
    """The record of one start. Each entry is one short line in a single write, so a kill damages at most the last one.

    A record that cannot be written, for example on a full disk, does not stop the run. The end of the run is
    also written to the event log.

    Args:
        folder: the output folder.
        facts: what the run was started with.
        in_place: raises FolderLost once the folder is no longer the one that the run has locked; the end is then not
            written, since another folder may have its name.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, in_place: Callable[[], None] = lambda: None) -> None:
        self.path = folder / RUNS_FILE
        self.facts = facts
        self.in_place = in_place
        self._process = this_process()
        self._ending: dict[str, Any] = {"status": "failed"}
        self._first_step: int | None = None
        self._is_closed = False

    @property
    def run(self) -> str:
        """The name of this start."""
        return start_name(self._process)

    def __enter__(self) -> Self:
        self._append("start", process=asdict(self._process), **self.facts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write how the run ends, if that is not written yet. Any thread may call this."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.in_place()
        except FolderLost:
            return
        step = self._last_step()
        self._append("end", **self._ending, step=step)
        write_end(self.path.parent, self.run, step=step, **self._ending)

    def resumed(self, step: int, **facts: Any) -> None:
        """Record that the run is ready for its first step."""
        self._first_step = step
        self._append("resumed", step=step, **facts)

    def ends(self, status: str, **facts: Any) -> None:
        """Set how the run ends; this is written when the block is left."""
        self._ending = {"status": status, **facts}

    def _append(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, "run": self.run, "time": round(time.time(), 3), **fields}, ensure_ascii=True)
        with contextlib.suppress(OSError), self.path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_torn = size > 0 and file.read(1) != b"\n"
            file.write(("\n" * is_torn + line + "\n").encode())

    def _last_step(self) -> int | None:
        """Steps done when this start ends; None if it has not come to its first."""
        for event in newest_events(self.path.with_name("events.jsonl")):
            if event.get("kind") == "job":
                break
            if event.get("kind") == "step" and isinstance(event.get("step"), int):
                return int(event["step"])
        return self._first_step


def start_name(process: ProcessIdentity) -> str:
    """What a start is called in `runs.jsonl` and in the event log."""
    return f"{process.machine}-{process.pid}-{process.started}"


def write_end(folder: Path, run: str, *, status: str, step: int | None = None, error: str | None = None) -> None:
    """Write to the event log, if there is one, how a start has ended."""
    events, shown = folder / "events.jsonl", "stopped" if status == "stopped at once" else status
    append_event(events, "end", run=run, status=shown, exit_code=EXIT_CODES[status], step=step, error=error)


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
        """How the run ended, or what is known about it.

        As recorded: `done`, `failed`, `interrupted` or `stopped at once`. Without such a record: `running`, `killed`,
        `ended by a reboot`, or `another machine`, where it may still be running; `end unknown` if an older version did
        not record the host; `unknown` if the record is damaged.
        """
        if self.end:
            return str(self.end.get("status", "unknown"))
        try:
            process = ProcessIdentity(**self.start["process"])
            fate = process.fate
        except (KeyError, TypeError):
            return "unknown"
        return "end unknown" if fate == "elsewhere" and not process.host else _FATES[fate]


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
