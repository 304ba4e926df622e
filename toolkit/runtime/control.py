"""The control folder: what users ask of a run that is under way, from any other process."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from toolkit.files import TEMPORARY_PREFIX, write_json

Command = Literal["stop", "save", "sample"]  # save and end; write a checkpoint now; draw samples now
COMMANDS: tuple[Command, ...] = get_args(Command)
CONTROL_FOLDER = ".run.control"
_NAME = re.compile(rf"(?P<time_ns>\d{{1,20}})-(?P<command>{'|'.join(COMMANDS)})\.json")
_TRIES = 5


def send(output_folder: Path, command: Command) -> Path:
    """Ask the run in a folder for something. Whether there is one is not looked at.

    Returns:
        The file `<nanoseconds since 1970>-<command>.json`, which the run deletes when it obeys.

    Raises:
        OSError: there is no such folder, or it cannot be written.
    """
    output_folder.stat()
    for tries_left in reversed(range(_TRIES)):
        time_ns = time.time_ns()
        path = output_folder / CONTROL_FOLDER / f"{time_ns}-{command}.json"
        try:
            write_json(path, {"command": command, "time": time_ns / 1e9})
        except FileNotFoundError:  # a run that begins or ends has just removed the folder, which was empty
            if not tries_left:
                raise
        else:
            break
    return path


class ControlFolder:
    """The commands sent to one run. Before the first one there is no folder, and a look is one `stat`."""

    def __init__(self, output_folder: Path) -> None:
        self.folder = output_folder / CONTROL_FOLDER

    def take(self) -> list[Command]:
        """The commands since the last time, in order. Each is taken once, whichever thread asks."""
        return [command for _, path, command in self._waiting() if _delete(path)] if self._is_there() else []

    def clear(self, *, before_ns: int) -> None:
        """Forget what was sent to earlier runs.

        Args:
            before_ns: when this start began, in nanoseconds since 1970; what was sent later is meant for it.
        """
        if not self._is_there():
            return
        for time_ns, path, _ in self._waiting():
            if time_ns < before_ns:
                _delete(path)
        with contextlib.suppress(OSError):
            for leftover in self.folder.glob(f"{TEMPORARY_PREFIX}*"):  # of a sender that was killed
                _delete(leftover)
            self.folder.rmdir()  # not while somebody is writing a command

    def _is_there(self) -> bool:
        try:
            return self.folder.is_dir()
        except OSError:
            return False

    def _waiting(self) -> list[tuple[int, Path, Command]]:
        found: list[tuple[int, Path, Command]] = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if match := _NAME.fullmatch(path.name):
                    command = next(known for known in COMMANDS if known == match["command"])
                    found.append((int(match["time_ns"]), path, command))
        return sorted(found)


class Wishes:
    """What has been asked of a run, beside its end, and has not been done yet. Any thread may add to it.

    Attributes:
        source: looks for what has been asked for since, and adds it.
    """

    def __init__(self) -> None:
        self.source: Callable[[], None] = lambda: None
        self._open: set[Command] = set()

    def look(self) -> None:
        """Take in what has been asked for since the last look."""
        self.source()

    def add(self, command: Command) -> None:
        """Wish for something; to wish again before it is done changes nothing."""
        self._open.add(command)

    def take(self, command: Command | None) -> bool:
        """Whether this has been wished for, which is then granted."""
        is_open = command in self._open
        if command is not None:
            self._open.discard(command)
        return is_open


def _delete(path: Path) -> bool:
    """Returns False if somebody else has, or nobody can: a command that stays must not be obeyed again and again."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
