"""Who a process is beyond its number, so that a later one can tell whether it still lives."""

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

# `gone`: it has ended, or was killed; `rebooted`: its host has been booted since; `elsewhere`: that cannot be seen here.
Fate = Literal["alive", "gone", "rebooted", "elsewhere"]
_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process among all that have ever had its number.

    Attributes:
        machine: 8 hex digits that stand for the host, its last boot and, in a container, the container.
        pid: its number.
        started: when it started: clock ticks since boot on Linux, seconds since 1970 elsewhere.
        host: 8 hex digits that stand for the host whenever it was booted; empty where that cannot be told, and in
            records of older versions.
        boot: 8 hex digits that stand for the boot of the host.
    """

    machine: str
    pid: int
    started: int
    host: str = field(default="", compare=False)
    boot: str = field(default="", compare=False)

    def is_alive(self) -> bool | None:
        """Whether it still runs; None where that cannot be seen from here.

        A process of this machine before its last boot counts as unseen too: another host may have taken its name.
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
    """The process that asks."""
    started = _started(os.getpid())
    assert started is not None, "a process that asks is alive"
    return ProcessIdentity(this_machine(), os.getpid(), started, this_host(), this_boot())


@functools.cache
def this_machine() -> str:
    """See ProcessIdentity.machine."""
    namespace = ""
    if _LINUX:
        with contextlib.suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())  # containers count their processes anew
    return _short_hash(f"{socket.gethostname()} {_boot()} {namespace}")


@functools.cache
def this_host() -> str:
    """See ProcessIdentity.host."""
    if not _LINUX:
        return _short_hash(f"{socket.gethostname()} {uuid.getnode()}")
    try:  # a name alone is not enough: another host may have taken it
        return _short_hash(f"{socket.gethostname()} {Path('/etc/machine-id').read_text(encoding='ascii').strip()}")
    except (OSError, ValueError):
        return ""


@functools.cache
def this_boot() -> str:
    """See ProcessIdentity.boot."""
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
    """When a process started; None if there is none of this number, or only one that waits to be buried."""
    try:
        if not _LINUX:
            return round(psutil.Process(pid).create_time())
        # The name in brackets may hold anything. psutil would add the time of boot, which moves when the clock is set.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    except (OSError, psutil.Error):
        return None
