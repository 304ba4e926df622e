"""The event log of a job: one JSON line for everything that a terminal, a logger or a web page may want to show.

The newest events are in `events.jsonl`. When that file is full, it is renamed to `events.1.jsonl` (the next time
`events.2.jsonl`, and so on) and a new one is started, so every event is in exactly one file. When the older files
together become too large, their steps are thinned out, first to those divisible by 2, then by 4, ...; all other events
are kept as long as there is room.

`read_events` returns all events. To follow a running job, keep `events.jsonl` open, read on at its end, and use only
complete lines. When the file of that name is no longer the open one (its inode differs), the open file has received
its last line: read it to the end, then open the new one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from toolkit.files import is_disk_full, write_bytes

FILE_BYTES = 2_000_000  # about 10,000 steps
OLDER_BYTES = 8 * FILE_BYTES
_COARSEST = 1024

# `job` begins a run; `stage` is a stage that started or is done; `step` is a training step; `message` and `warning` are
# lines for the user; `sample` and `checkpoint` are files that were written or deleted; `done` or `error` ends a run.
EventKind = Literal["job", "stage", "message", "warning", "step", "sample", "checkpoint", "error", "done"]


class EventLog:
    """Appends events to `events.jsonl`; a reader may follow along while the job runs.

    Each line has `time` (seconds since 1970), `kind` (one of `EventKind`) and the fields of that kind. For a `step`
    these are `step` (its number), `loss`, `terms` (the named terms that add up to the loss), `lr`, `grad_norm` and
    `step_s` (how many seconds it took).

    Args:
        path: the file with the newest events.
        file_bytes: size at which a new file is started.
        older_bytes: largest total size of the older files.
    """

    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, older_bytes: int = OLDER_BYTES) -> None:
        self.path = path
        self.file_bytes = file_bytes
        self.older_bytes = older_bytes

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._num_lost = 0
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, kind: EventKind, **fields: Any) -> None:
        """Append one event. This is one short write without a sync; files are rewritten only when one is full.

        A number that is not finite is written as null: JSON has no NaN, and browsers could not parse the line. If the
        disk is full, the event is lost but the run continues; the log reports lost events once there is room again.
        """
        if self._num_lost and self._append("warning", {"text": f"{self._num_lost} events lost: the disk was full"}):
            self._num_lost = 0
        if not self._append(kind, fields):
            self._num_lost += 1
        if self._room <= 0:
            self._start_new_file()

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)  # unbuffered: events are readable at once and survive a kill
        self._is_cut = not _ends_a_line(self.path)  # by a crash; the next line must not be appended to the cut one
        self._room = self.file_bytes - self.path.stat().st_size

    def _append(self, kind: str, fields: Mapping[str, Any]) -> bool:
        """Write one line. Returns False if the disk is full."""
        event = {"time": round(time.time(), 3), "kind": kind, **{key: _finite(value) for key, value in fields.items()}}
        text = json.dumps(event, ensure_ascii=False, default=str)
        # A file name that is not UTF-8 contains surrogates; written as \udcxx they are still valid JSON.
        line = (b"\n" if self._is_cut else b"") + text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            num_written = self._file.write(line)
        except OSError as error:
            if not is_disk_full(error):
                raise
            num_written = 0
        self._room -= num_written
        if num_written == len(line):
            self._is_cut = False
            return True
        self._is_cut |= num_written > 0
        return False

    def _start_new_file(self) -> None:
        self._file.close()
        # Windows cannot rename a file that a reader has open, and thinning needs disk space: tried again later.
        with contextlib.suppress(OSError):
            older = _older_files(self.path)
            number = _number(older[-1]) + 1 if older else 1
            self.path.rename(self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}"))
            _thin_out(_older_files(self.path), self.older_bytes)
        self._open()
        self._room = self.file_bytes


class SilentLog(EventLog):
    """Takes events and writes none: the log of a process that leaves it to another."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def write(self, kind: EventKind, **fields: Any) -> None:
        """Nothing."""


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order. A line that a crash cut short is skipped.

    Args:
        path: path of `events.jsonl`.

    Raises:
        FileNotFoundError: there is no such log.
    """
    # Opened before the older files are listed: if the log starts a new file meanwhile, this one is still read, once.
    with _open_newest(path) as newest:
        for older in _older_files(path):
            with older.open("rb") as file:
                if not os.path.samestat(os.fstat(file.fileno()), os.fstat(newest.fileno())):
                    yield from _events(file.read())
        yield from _events(newest.read())


def _open_newest(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:  # between renaming one file and creating the next, now or when a run was killed
        older = _older_files(path) if path.parent.is_dir() else []
        if not older:
            raise
        return older[-1].open("rb")


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n"):
        try:
            event = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):  # zeros after a power failure, or a number with thousands of digits
            continue
        if isinstance(event, dict):
            yield event


def _thin_out(files: list[Path], limit_bytes: int) -> None:
    """Drop steps, and if need be whole files, until `files` (oldest first) fit within the limit."""
    stride = 2
    while sum(path.stat().st_size for path in files) > limit_bytes:
        if stride > _COARSEST:
            files.pop(0).unlink()
            continue
        for path in files[:-1]:  # a reader that follows the log may not have finished the last one
            _keep_every(path, stride)
        stride *= 2


def _keep_every(path: Path, stride: int) -> None:
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    kept = b"".join(line for line in lines if _stays(line, stride))
    if len(kept) < len(content):
        write_bytes(path, kept)


def _stays(line: bytes, stride: int) -> bool:
    event = next(_events(line), {})
    return event.get("kind") != "step" or event.get("step", 0) % stride == 0


def _older_files(path: Path) -> list[Path]:
    """`events.1.jsonl`, `events.2.jsonl`, ... next to `events.jsonl`, oldest first."""
    name = re.compile(rf"{re.escape(path.stem)}\.\d+{re.escape(path.suffix)}")
    return sorted((other for other in path.parent.iterdir() if name.fullmatch(other.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.rpartition(".")[2])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
