"""This machine now: its cards by `nvidia-smi`, memory, load and disks."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path

import psutil

from toolkit.runtime.nvidia_smi import driver_cards, find_program
from ui.server.schemas import DiskInfo, GpuInfo

_TIMEOUT_S = 5.0  # whoever waits also looks at jobs


class Cards:
    """The cards, as their driver sees them; queried at most every two seconds."""

    def __init__(self, program: str | None = None) -> None:
        self.program = program or find_program()

    def all(self) -> list[GpuInfo]:
        """Every card; none where there is no driver."""
        found = driver_cards(self.program, timeout_s=_TIMEOUT_S) if self.program else None
        return [
            GpuInfo(
                index=card.index,
                name=card.name,
                total_bytes=card.total_bytes,
                used_bytes=card.used_bytes or 0,
                load=card.load,
                temperature_c=card.temperature_c,
                power_w=card.power_w,
                job_id=None,
            )
            for card in found or ()
        ]


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
