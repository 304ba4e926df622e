"""A start of a job by the page: its process, how it is known again after a restart, and its log.

The process inherits a lock on `.ui.lock`. As long as it lives, and no longer, nobody can take that lock: anything that
looks at the folder later knows without trusting a number, even if the server was killed before it wrote one down.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from toolkit.extension import REPOSITORY
from toolkit.files import write_json
from toolkit.output.alive import ProcessIdentity, this_machine
from toolkit.output.run_record import read_runs
from ui.server.jobs.folders import JOB_FILE

LAUNCH_FILE = ".ui.launch"
LOCK_FILE = ".ui.lock"
LOG_FILE = "log.txt"
_ROTATED_BYTES = 100_000_000
_END_S = 5.0
_LATEST = 1e11  # seconds since 1970: a damaged file must not name a time without an end


@dataclass(frozen=True)
class Launch:
    """One start by the page.

    Attributes:
        time: when, in seconds since 1970.
        process: its process; None if the server was killed before it wrote that down.
        gpu: the card it was given; None on a CPU.
        log_offset: where in the log its output begins.
        exit_code: None while it runs, and where nobody saw it end.
        after_run: name of the last start that the folder recorded before; empty if there was none, None if unknown.
        more_gpus: further cards that it was given, to split its model over.
    """

    time: float
    process: ProcessIdentity | None
    gpu: int | None
    log_offset: int
    exit_code: int | None = None
    after_run: str | None = None
    more_gpus: tuple[int, ...] = ()

    @property
    def gpus(self) -> tuple[int, ...]:
        """All cards that it was given."""
        return () if self.gpu is None else (self.gpu, *self.more_gpus)


class Running:
    """Processes that this server has started itself, so that it learns their exit codes."""

    def __init__(self) -> None:
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}

    def start(
        self,
        folder: Path,
        program: Sequence[str],
        arguments: Sequence[str],
        *,
        gpus: Sequence[int],
        env: Mapping[str, str],
    ) -> Launch:
        """Start the job of a folder on cards; none of them on a CPU.

        Raises:
            BlockingIOError: an earlier start still lives.
            OSError: it cannot be started.
        """
        lock = _take(folder, patience_s=0.5)
        try:
            if (former := self._processes.pop(folder, None)) is not None:  # it has let go of the lock: it ends
                with contextlib.suppress(subprocess.TimeoutExpired):
                    former.wait(timeout=_END_S)
            offset = _rotate(folder / LOG_FILE)
            runs = read_runs(folder)
            before = str(runs[-1].start.get("run") or "") if runs else ""
            first, more = (gpus[0] if gpus else None), tuple(gpus[1:])
            launch = Launch(round(time.time(), 3), None, first, offset, after_run=before, more_gpus=more)
            write_launch(folder, launch)
            shown = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            cards = shown if gpus else {}
            options: dict[str, Any] = {"pass_fds": (lock,), "start_new_session": True} if os.name == "posix" else {}
            with (folder / LOG_FILE).open("ab") as log:
                process = subprocess.Popen(
                    [*program, str(folder / JOB_FILE), *arguments],
                    cwd=REPOSITORY,
                    env={**os.environ, **env, **cards, "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **options,
                )
        finally:
            os.close(lock)
        self._processes[folder] = process
        launch = replace(launch, process=identity_of(process.pid))
        write_launch(folder, launch)
        return launch

    def close(self) -> None:
        """Let them live on without a parent."""
        for process in self._processes.values():
            process.returncode = process.poll() or 0  # else Python would complain of children that are not waited for
        self._processes.clear()

    def reap(self) -> list[Path]:
        """Write down the exit codes of those that have ended. Returns their folders."""
        ended = []
        for folder, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[folder]
            launch = read_launch(folder)
            with contextlib.suppress(OSError):  # the folder may be gone
                if launch is not None and folder.is_dir():
                    write_launch(folder, replace(launch, exit_code=code))
            ended.append(folder)
        return ended


def read_launch(folder: Path) -> Launch | None:
    """The last start by the page; None if there was none."""
    try:
        found: Any = json.loads((folder / LAUNCH_FILE).read_text(encoding="utf-8"))
        return launch_from(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def launch_from(found: Any) -> Launch:
    """A start from its JSON. Raises what Python raises for JSON of another kind."""
    process, after = found["process"], found.get("after_run")
    gpu, code = found["gpu"], found["exit_code"]
    return Launch(
        time=min(float(found["time"]), _LATEST),
        process=None if process is None else ProcessIdentity(**process),
        gpu=None if gpu is None else int(gpu),
        log_offset=max(0, int(found["log_offset"])),
        exit_code=None if code is None else int(code),
        after_run=None if after is None else str(after),
        more_gpus=tuple(map(int, found.get("more_gpus") or ())),
    )


def write_launch(folder: Path, launch: Launch) -> None:
    """Write down a start."""
    write_json(folder / LAUNCH_FILE, asdict(launch))


def is_alive(folder: Path, launch: Launch) -> bool:
    """Whether the process of a start, or one that it has begun, lives."""
    if launch.exit_code is not None:
        return False
    if sys.platform == "win32":
        return launch.process is not None and launch.process.is_alive() is True
    try:
        os.close(_take(folder, is_shared=True))  # two that look at once are not taken for a run by each other
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def process_of(folder: Path, launch: Launch) -> ProcessIdentity | None:
    """The process of a start; looked for by its command where the server was killed before it wrote it down."""
    if launch.process is not None:
        return launch.process
    job = str(folder / JOB_FILE)
    for process in psutil.process_iter(["cmdline"]):
        if job in (process.info["cmdline"] or ()):
            return identity_of(process.pid)
    return None


def identity_of(pid: int) -> ProcessIdentity | None:
    """Who a process is; None if it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        if sys.platform != "linux":
            return ProcessIdentity(this_machine(), pid, round(psutil.Process(pid).create_time()))
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return ProcessIdentity(this_machine(), pid, int(fields[19]))
    return None


def output_of(folder: Path, launch: Launch, *, most_bytes: int = 20_000) -> str:
    """What a start has printed; of much, the end."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(launch.log_offset if launch.log_offset <= size else 0, size - most_bytes)
            file.seek(start)
            return file.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def mistakes_in(text: str) -> tuple[str, list[str]]:
    """The last list of mistakes in what a start has printed: its heading, and a line for each. Empty if there is none.

    A mistake of several lines is reported by its first line.
    """
    lines = text.splitlines()
    for index in reversed(range(len(lines))):
        if lines[index].rstrip().endswith((" mistake", " mistakes")):
            entries = itertools.takewhile(lambda line: line.startswith("  "), lines[index + 1 :])
            return lines[index].strip(), [line.strip() for line in entries if not line.startswith("    ")]
    return "", []


def _take(folder: Path, *, patience_s: float = 0.0, is_shared: bool = False) -> int:
    """A handle that holds the folder's lock.

    Raises:
        BlockingIOError: a process holds it, and keeps it: a process that only looks releases it at once.
    """
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform == "win32":
        return handle
    import fcntl

    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(handle)
                raise
            time.sleep(0.01)
        except BaseException:
            os.close(handle)
            raise
        else:
            return handle


def _rotate(log: Path) -> int:
    """Begin a new log where the old one is long. Returns where the output of the next start begins."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size < _ROTATED_BYTES:
        return size
    numbers = [int(path.suffixes[0][1:]) for path in log.parent.glob("log.*.txt") if path.suffixes[0][1:].isdecimal()]
    with contextlib.suppress(OSError):  # Windows renames nothing that is open
        log.rename(log.with_name(f"log.{max(numbers, default=0) + 1}.txt"))
        return 0
    return size
