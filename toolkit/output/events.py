"""The event log of a job: one JSON line for everything that a terminal, a logger or a web page may want to show.

The newest events are in `events.jsonl`. When that file is full, it is renamed to `events.1.jsonl` (the next time
`events.2.jsonl`, and so on) and a new one is started, so every event is in exactly one file. When the older files
together become too large, their steps are thinned out, first to those divisible by 2, then by 4, ..., and memory
figures with them; all other events are kept as long as there is room.

`read_events` returns all events. To follow a running job, keep `events.jsonl` open, read on at its end, and use only
complete lines. When the file of that name is no longer the open one (its inode differs), the open file has received
its last line: read it to the end, then open the new one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from toolkit.files import is_disk_full
from toolkit.output.event_files import number_of, older_files, parse_events, thin_out

FILE_BYTES = 2_000_000  # about 10,000 steps
OLDER_BYTES = 8 * FILE_BYTES
_BLOCK_BYTES = 1 << 16
_KIND_ENDS = 64  # in a line: after its time and kind

EventKind = Literal[
    "job",
    "stage",
    "progress",
    "message",
    "warning",
    "step",
    "sample",
    "pictures",
    "checkpoint",
    "validation",
    "scores",
    "memory",
    "control",
    "error",
    "done",
    "end",
]


class EventLog:
    """Appends events to `events.jsonl`; a reader may follow along while the job runs.

    Each line holds `time` (seconds since 1970), `kind` and the fields of that kind. Paths are relative to the output
    folder, with `/`.

        job         a start writes its first event: `run` (as in runs.jsonl), `name`, `arch`, `steps`
        stage       `name` (`check` and those of the run), `state`: `started` or `done`; then also `duration_s`, and of
                    memory `peak_ram_bytes`, `peak_gpu_bytes`, `predicted_ram_bytes`, `predicted_gpu_bytes`. The check
                    comes before `job`, only in a folder that has a log; it names its `run` instead of memory
        progress    within a stage, at most twice a second: `stage`, `done`, `total`, `unit`, such as `images`
        message     `text` for the user
        warning     the same
        step        `step`, `loss`, `terms` (whose sum the loss is, by name), `lr`, `grad_norm`, `step_s` (seconds);
                    `rates`, by name, if some weights learn at another rate than `lr`; `loss_by_noise`, the mean loss
                    of the step's samples in each band of noise that has any, `grad_by_noise` beside it, and
                    `loss_by_dataset` if there are several
        sample      one picture: `path`, `step`, `index`, `prompt`, `seed`, `width`, `height`, `network_multiplier`
        pictures    all that a drawing job will draw: its `columns`, with `name` and `loras` (file and strength); its
                    `rows`, with `prompt` and `seed`; for each column the `files` of its rows; and the `device`, by the
                    name of its card
        checkpoint  `state`: `written`, with the weights' `path`, `step`, `bytes` and whether they are the `final` ones;
                    or `deleted`, with the `path`; or `best`, with the `path` and `step` of the best weights so far
        validation  a round: `step`; `figures`, for each kind of images or prompts the `mean` change since the base
                    model, `half` the width of its 95 % interval, `num` of what, and the same in `bands` of noise; the
                    `gap` between unseen and training images; the `best` round, the `figure` it is the best by, and the
                    steps that are `alike`
        scores      of a round of samples, by an image encoder: `step`, and what is known of `similarity` to the
                    training images, `prompt_match` and `drift` of prompts without the trigger word
        memory      every 10 seconds: `ram_bytes` of the process; `gpu_bytes` of tensors and `gpu_reserved_bytes` on the
                    card, null where it uses none
        control     a command from outside is obeyed: `command`, see `toolkit.runtime.control`
        error       `error` (its class), `message`, `traceback` (empty for a user's mistake)
        done        the run has made all its steps
        end         the last event of a start: `run`, `status`: `done`, `failed`, `interrupted`, `refused` (by the
                    check) or `stopped` (at once), `exit_code`, `step` (null before the first), `error` (null if none)

    Args:
        path: the file with the newest events.
        file_bytes: size at which a new file is started.
        older_bytes: largest total size of the older files.

    Attributes:
        listeners: told each event once it is written, with its `kind`.
    """

    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, older_bytes: int = OLDER_BYTES) -> None:
        self.path = path
        self.file_bytes = file_bytes
        self.older_bytes = older_bytes
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []

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
        for take in self.listeners:
            take({"kind": kind, **fields})

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
        if not self.path.parent.is_dir():  # moved or deleted under the run: continues in the open file until it ends
            self._room = self.file_bytes
            return
        self._file.close()
        # Windows cannot rename a file that a reader has open, and thinning needs disk space: tried again later.
        with contextlib.suppress(OSError):
            older = older_files(self.path)
            number = number_of(older[-1]) + 1 if older else 1
            self.path.rename(self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}"))
            thin_out(older_files(self.path), self.older_bytes)
        self._open()
        self._room = self.file_bytes


def append_event(path: Path, kind: EventKind, **fields: Any) -> None:
    """Add an event to an existing log, which other processes may write to; without a log, or space for it, do nothing.

    Args:
        path: `events.jsonl`.
        kind: of the event.
        fields: those of the kind.
    """
    with contextlib.suppress(OSError):
        if path.is_file():  # a pipe would wait for a reader
            with EventLog(path, file_bytes=sys.maxsize) as log:  # who runs the job begins new files, and nobody else
                log.write(kind, **fields)


def newest_events(path: Path, *, passed_over: EventKind | None = None) -> Iterator[dict[str, Any]]:
    """The events of a log, newest first, as far as it can be read. Reads no more of it than is asked for.

    Args:
        path: `events.jsonl`.
        passed_over: a kind that is left out; its lines are not even parsed, so a hundred thousand steps take no time.
    """
    mark = f'"kind": "{passed_over}"'.encode() if passed_over else None
    yield from _backwards(path, mark)
    with contextlib.suppress(OSError):
        for older in reversed(older_files(path)):
            yield from _backwards(older, mark)


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
        for older in older_files(path):
            with older.open("rb") as file:
                if not os.path.samestat(os.fstat(file.fileno()), os.fstat(newest.fileno())):
                    yield from parse_events(file.read())
        yield from parse_events(newest.read())


def _open_newest(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:  # between renaming one file and creating the next, now or when a run was killed
        older = older_files(path) if path.parent.is_dir() else []
        if not older:
            raise
        return older[-1].open("rb")


def _backwards(path: Path, mark: bytes | None) -> Iterator[dict[str, Any]]:
    """Passes over the lines that have `mark` near their beginning."""
    if not path.is_file():  # a pipe or a device would never come to an end
        return
    with contextlib.suppress(OSError), path.open("rb") as file:
        end, rest = file.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            first, *lines = (file.read(end - start) + rest).split(b"\n")
            for line in reversed(lines):
                if mark is None or mark not in line[:_KIND_ENDS]:
                    yield from parse_events(line)
            end, rest = start, first
        if mark is None or mark not in rest[:_KIND_ENDS]:
            yield from parse_events(rest)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
