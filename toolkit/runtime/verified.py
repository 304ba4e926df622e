"""Which entries of a cache folder have been found whole, so that a second start need not read them all."""

from __future__ import annotations

import contextlib
from pathlib import Path

from toolkit.files import write_text

NAME = "verified.txt"
_State = tuple[int, int, int, int]


class Verified:
    """A list in the folder: an entry's name, size, time stamps and inode when it was last found whole.

    Whatever changes a file changes at least one of them. Where the list cannot be written, every start reads all.

    Args:
        folder: the cache folder.
    """

    def __init__(self, folder: Path) -> None:
        self._list = folder / NAME
        self._known: dict[str, _State] | None = None

    def has(self, path: Path) -> bool:
        """Whether a file of the folder is as it was when it was found whole."""
        state = _state(path)
        return state is not None and self._read().get(path.name) == state

    def add(self, path: Path) -> None:
        """A file of the folder has been found whole, or has just been written."""
        state = _state(path)
        if state is None or self._read().get(path.name) == state:
            return
        self._read()[path.name] = state
        with contextlib.suppress(OSError), self._list.open("a", encoding="utf-8") as file:
            file.write(_line(path.name, state))

    def _read(self) -> dict[str, _State]:
        if self._known is None:
            self._known = {}
            try:
                lines = self._list.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                lines = []
            for line in lines:
                name, *numbers = line.split(" ")
                if len(numbers) == 4 and all(number.isdecimal() for number in numbers):  # not one cut short
                    self._known[name] = (int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[3]))
            if len(lines) > 2 * len(self._known) + 1000:
                with contextlib.suppress(OSError):
                    write_text(self._list, "".join(_line(name, state) for name, state in self._known.items()))
        return self._known


def _state(path: Path) -> _State | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _line(name: str, state: _State) -> str:
    return f"{name} {' '.join(map(str, state))}\n"
