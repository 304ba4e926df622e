"""The control folder: commands to a running job, sent from any other process."""

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
    """Send a command to the run in a folder, without checking that there is one.

    Returns:
        The file `<nanoseconds since 1970>-<command>.json`, which the run deletes when it takes the command.

    Raises:
        OSError: there is no such folder, or it cannot be written.
    """
    output_folder.stat()
    for tries_left in reversed(range(_TRIES)):
        time_ns = time.time_ns()
        path = output_folder / CONTROL_FOLDER / f"{time_ns}-{command}.json"
        try:
            write_json(path, {"command": command, "time": time_ns / 1e9})
        except FileNotFoundError:  # a run that is starting or ending has just removed the empty folder
            if not tries_left:
                raise
        else:
            break
    return path


class ControlFolder:
    """The commands sent to one run. The folder is created by the first one; until then, looking costs one `stat`."""

    def __init__(self, output_folder: Path) -> None:
        self.folder = output_folder / CONTROL_FOLDER

    def take(self) -> list[Command]:
        """The commands since the last call, in order. Each is returned once, whichever thread calls."""
        return [command for _, path, command in self._waiting() if _delete(path)] if self._is_there() else []

    def clear(self, *, before_ns: int) -> None:
        """Delete the commands sent to earlier runs.

        Args:
            before_ns: when this start began, in nanoseconds since 1970; later commands are kept.
        """
        if not self._is_there():
            return
        for time_ns, path, _ in self._waiting():
            if time_ns < before_ns:
                _delete(path)
        with contextlib.suppress(OSError):
            for leftover in self.folder.glob(f"{TEMPORARY_PREFIX}*"):  # from a sender that was killed
                _delete(leftover)
            self.folder.rmdir()  # fails while someone is writing a command

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


class PendingCommands:
    """Commands other than `stop` that a run has received and not yet carried out. Any thread may add one.

    Attributes:
        source: is called by `look`, and adds the commands that have arrived.
    """

    def __init__(self) -> None:
        self.source: Callable[[], None] = lambda: None
        self._open: set[Command] = set()
        self._clocks: dict[Command, tuple[float, float]] = {}

    def look(self) -> None:
        """Add the commands that have arrived since the last look, and those whose time has come."""
        self.source()
        now = time.monotonic()
        for command, (every_s, added) in self._clocks.items():
            if now - added >= every_s:
                self._clocks[command] = (every_s, now)
                self.add(command)

    def repeat(self, command: Command, every_s: float) -> None:
        """From now on, `look` adds a command whenever so many seconds have passed since it was last added by this."""
        self._clocks[command] = (every_s, time.monotonic())

    def add(self, command: Command) -> None:
        """Add a command; adding it again before it is carried out changes nothing."""
        self._open.add(command)

    def take(self, command: Command | None) -> bool:
        """Whether this command is pending; it no longer is afterwards."""
        is_open = command in self._open
        if command is not None:
            self._open.discard(command)
        return is_open


def _delete(path: Path) -> bool:
    """Returns False if the file is already gone or cannot be deleted: the command must not be carried out twice."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
