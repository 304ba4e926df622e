"""Who a process is beyond its number, so that a later one can tell whether it still lives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process among all that have ever had its number.

    Attributes:
        machine: 8 hex digits that stand for the host, its last boot and, in a container, the container.
        pid: its number.
        started: when it started: clock ticks since boot on Linux, seconds since 1970 elsewhere.
    """

    machine: str
    pid: int
    started: int

    def is_alive(self) -> bool | None:
        """Whether it still runs; None where that cannot be seen from here.

        A process of this machine before its last boot counts as unseen too: another host may have taken its name.
        """
        if self.machine != this_machine():
            return None
        return _started(self.pid) == self.started


def this_process() -> ProcessIdentity:
    """The process that asks."""
    started = _started(os.getpid())
    assert started is not None, "a process that asks is alive"
    return ProcessIdentity(this_machine(), os.getpid(), started)


@functools.cache
def this_machine() -> str:
    """See ProcessIdentity.machine."""
    boot: str = str(int(psutil.boot_time())) if not _LINUX else ""
    namespace = ""
    if _LINUX:
        with contextlib.suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
            namespace = str(Path("/proc/self/ns/pid").readlink())  # containers count their processes anew
    return hashlib.sha256(f"{socket.gethostname()} {boot} {namespace}".encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """When a process started; None if there is none of this number, or only one that waits to be buried."""
    try:
        if not _LINUX:
            return round(psutil.Process(pid).create_time())
        # The name in brackets may hold anything. psutil would add the time of boot, which moves when the clock is set.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    except (OSError, psutil.Error):
        return None
