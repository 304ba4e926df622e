"""A disk whose n-th call fails, or on which the process dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from toolkit.files import Disk

CALLS = ("open", "write", "sync", "rename", "unlink")


class Killed(BaseException):
    """The process is dead: nothing it does from now on reaches the disk."""


class FaultyDisk(Disk):
    """Fails from the `nth` call on (from 1), for as long as it `lasts`.

    Args:
        nth: the first call that fails; 0 for none.
        code: an errno; `short` takes a part of what is written; `kill` is death at that call.
        lasts: calls that fail.
    """

    def __init__(self, nth: int = 0, code: int | str = "kill", *, lasts: int = 1) -> None:
        self.nth = nth
        self.code = code
        self.lasts = lasts
        self.log: list[tuple[str, str]] = []

    def open(self, path: Path) -> int:
        self._call("open", path)
        return super().open(path)

    def write(self, handle: int, data: memoryview) -> int:
        if self._call("write", handle) and self.code == "short":
            data = data[: max(1, len(data) // 2)]
        return super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._call("sync", handle)  # not really: no power is cut here, and it takes most of the time

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", target)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)
        super().unlink(path)

    def _call(self, name: str, place: Path | int) -> bool:
        path = str(place) if isinstance(place, Path) else str(Path(f"/proc/self/fd/{place}").readlink())
        self.log.append((name, path))
        number = len(self.log)
        if not self.nth or number < self.nth:
            return False
        if self.code == "kill":
            raise Killed
        if number >= self.nth + self.lasts:
            return False
        if isinstance(self.code, int):
            raise OSError(self.code, os.strerror(self.code), path)
        return True


CODES: tuple[int | str, ...] = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR, "short")
