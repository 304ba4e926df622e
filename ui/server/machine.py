"""This machine now: its cards by `nvidia-smi`, memory, load and disks."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil

from ui.server.schemas import DiskInfo, GpuInfo

_FRESH_S = 2.0
_QUERY = "index,name,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw"
_MIB = 1 << 20


class Cards:
    """The cards, as their driver sees them; queried at most every two seconds."""

    def __init__(self, program: str | None = None) -> None:
        self.program = program or shutil.which("nvidia-smi")
        self._lock = threading.Lock()
        self._asked = -_FRESH_S
        self._cards: list[GpuInfo] = []

    def all(self) -> list[GpuInfo]:
        """Every card; none where there is no driver."""
        if self.program is None:
            return []
        with self._lock:
            if time.monotonic() - self._asked >= _FRESH_S:
                self._cards = self._ask(self.program)
                self._asked = time.monotonic()
            return list(self._cards)

    def _ask(self, program: str) -> list[GpuInfo]:
        command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
            return [card for line in done.stdout.splitlines() if (card := _card(line)) is not None]
        return []


def disks(roots: tuple[Path, ...]) -> list[DiskInfo]:
    """Room in the roots."""
    found = []
    for root in roots:
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(root)
            found.append(DiskInfo(root=str(root), total_bytes=usage.total, free_bytes=usage.free))
    return found


def cpu_load() -> float:
    """Share of the processors that work, 0 to 1, since the last call."""
    return psutil.cpu_percent(interval=None) / 100


def ram() -> tuple[int, int]:
    """Bytes of RAM, and those that are free."""
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def hostname() -> str:
    """Name of this machine."""
    return socket.gethostname()


def _card(line: str) -> GpuInfo | None:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 7:
        return None
    total, used, load, temperature, power = map(_figure, parts[2:])
    if not parts[0].isdecimal() or total is None:
        return None
    return GpuInfo(
        index=int(parts[0]),
        name=parts[1],
        total_bytes=round(total * _MIB),
        used_bytes=round((used or 0) * _MIB),
        load=None if load is None else load / 100,
        temperature_c=temperature,
        power_w=power,
        job_id=None,
    )


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A]
        return None
