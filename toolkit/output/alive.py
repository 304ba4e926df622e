"""Identifies a process by more than its pid, so that a later process can find out whether it is still running."""

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
    """One process, distinguished from all others that have ever had the same pid.

    Attributes:
        machine: 8 hex digits that identify the host, its last boot and, if there is one, the container.
        pid: the process ID.
        started: start time of the process: clock ticks since boot on Linux, seconds since 1970 elsewhere.
    """

    machine: str
    pid: int
    started: int

    def is_alive(self) -> bool | None:
        """Whether the process is still running; None if that cannot be determined from here.

        That includes a process from before this machine's last boot: another host may now have the same name.
        """
        if self.machine != this_machine():
            return None
        return _started(self.pid) == self.started


def this_process() -> ProcessIdentity:
    """The identity of the current process."""
    started = _started(os.getpid())
    assert started is not None, "the current process is alive"
    return ProcessIdentity(this_machine(), os.getpid(), started)


@functools.cache
def this_machine() -> str:
    """`ProcessIdentity.machine` of the current process."""
    boot: str = str(int(psutil.boot_time())) if not _LINUX else ""
    namespace = ""
    if _LINUX:
        with contextlib.suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
            namespace = str(Path("/proc/self/ns/pid").readlink())  # each container has its own pids
    return hashlib.sha256(f"{socket.gethostname()} {boot} {namespace}".encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """Start time of a process; None if no process has this pid, or only a zombie."""
    try:
        if not _LINUX:
            return round(psutil.Process(pid).create_time())
        # The name in parentheses may contain anything. psutil would add the boot time, which changes with the clock.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    except (OSError, psutil.Error):
        return None
