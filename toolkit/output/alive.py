"""Identifies a process by more than its pid, so that a later process can find out whether it is still running."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

# `gone`: it has ended or was killed; `rebooted`: its host has booted since; `elsewhere`: this machine cannot tell.
Fate = Literal["alive", "gone", "rebooted", "elsewhere"]
_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, distinguished from all others that have ever had the same pid.

    Attributes:
        machine: 8 hex digits that identify the host, its last boot and, if there is one, the container.
        pid: the process ID.
        started: start time of the process: clock ticks since boot on Linux, seconds since 1970 elsewhere.
        host: 8 hex digits that identify the host across its boots; empty if unknown, and in records of older versions.
        boot: 8 hex digits that identify the boot of the host.
    """

    machine: str
    pid: int
    started: int
    host: str = field(default="", compare=False)
    boot: str = field(default="", compare=False)

    def is_alive(self) -> bool | None:
        """Whether the process is still running; None if that cannot be determined from here.

        That includes a process from before this machine's last boot: another host may now have the same name.
        """
        if self.machine != this_machine():
            return None
        return _started(self.pid) == self.started

    @property
    def fate(self) -> Fate:
        """What has become of it, for people to read: a process from before the last boot is surely gone.

        What must not be wrong if two hosts pass for one, such as a lock, asks `is_alive`.
        """
        if self.machine == this_machine():
            return "alive" if self.is_alive() else "gone"
        if self.host and self.host == this_host() and self.boot != this_boot():
            return "rebooted"
        return "elsewhere"


def this_process() -> ProcessIdentity:
    """The identity of the current process."""
    started = _started(os.getpid())
    assert started is not None, "the current process is alive"
    return ProcessIdentity(this_machine(), os.getpid(), started, this_host(), this_boot())


@functools.cache
def this_machine() -> str:
    """`ProcessIdentity.machine` of the current process."""
    namespace = ""
    if _LINUX:
        with contextlib.suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())  # each container numbers its processes from 1
    return _short_hash(f"{socket.gethostname()} {_boot()} {namespace}")


@functools.cache
def this_host() -> str:
    """`ProcessIdentity.host` of the current process."""
    if not _LINUX:
        return _short_hash(f"{socket.gethostname()} {uuid.getnode()}")
    try:  # the name alone is not enough: another host may have the same
        return _short_hash(f"{socket.gethostname()} {Path('/etc/machine-id').read_text(encoding='ascii').strip()}")
    except (OSError, ValueError):
        return ""


@functools.cache
def this_boot() -> str:
    """`ProcessIdentity.boot` of the current process."""
    return _short_hash(_boot())


def _boot() -> str:
    if _LINUX:
        with contextlib.suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return ""
    return str(int(psutil.boot_time()))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
