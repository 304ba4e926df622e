"""One live run per output folder."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from toolkit.errors import UserError

LOCK_FILE = ".run.lock"
_NO_LOCKS_HERE = {errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK}


class FolderInUse(UserError):
    """Another live run writes to the folder; nothing in it may be touched."""


class RunLock:
    """Holds a folder while the block runs. The system lets go of it when the process dies, however it dies.

    Attributes:
        notice: a sentence for the user after entering, or None.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notice: str | None = None

    def __enter__(self) -> Self:
        """Create the folder and take it.

        Raises:
            FolderInUse: another live run has it; the message names the process and its machine.
            UserError: the folder cannot be written.
        """
        path = self.folder / LOCK_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"Cannot write to the output folder {self.folder} ({error.strerror}). "
                "Choose another `training_folder`, or mend its permissions."
            ) from error
        try:
            _take(self._file)
        except OSError as error:
            owner = _read(path)
            self._file.close()
            if error.errno not in _NO_LOCKS_HERE:
                raise FolderInUse(
                    f"{self.folder} is in use by {_describe(owner)}. Wait for it, stop it, or choose another name "
                    "for this job (`-n NAME`, where the file says `name: [name]`, or `config.name`)."
                ) from error
            self.notice = f"{self.folder} is on a drive without file locks: nothing stops a second run in it."
            self._file = path.open("a+", encoding="utf-8")
        else:
            owner = _read(path)
            if owner:
                self.notice = f"Took over {self.folder}: {_describe(owner)} ended without letting go of it."
        self._write(json.dumps(_this_process()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # emptied, not deleted: a run that has just opened the old file would lock a file nobody else can see
        with contextlib.suppress(OSError):
            self._write("")
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


if sys.platform == "win32":
    import msvcrt

    _FAR_AWAY = 0x7FFF0000  # Windows forbids reading locked bytes, and others must be able to read who we are

    def _take(file: IO[str]) -> None:
        os.lseek(file.fileno(), _FAR_AWAY, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _this_process() -> dict[str, Any]:
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _read(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # empty, or cut short by a crash: nobody to name
        return {}
    return owner if isinstance(owner, dict) else {}


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another run"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('started')})"
