"""Makes sure that at most one run at a time uses an output folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from toolkit.errors import UserError
from toolkit.output.alive import ProcessIdentity, this_process
from toolkit.output.claim import CLAIM_FILE, Claim, Claimed, read_owner, this_owner

LOCK_FILE = ".run.lock"
_NO_LOCKS_HERE = {errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK}


class FolderInUse(UserError):
    """Another run is using the folder; nothing in it may be touched."""


class FolderLost(UserError):
    """The folder of a run was moved, deleted or replaced while the run used it; nothing can be saved there."""


class RunLock:
    """Locks a folder for the duration of the block. The system releases it when the process ends, however it ends.

    On a drive without file locks (some network drives), a `Claim` replaces the lock.

    Attributes:
        notice: a sentence for the user, set on entering; None if there is nothing to report.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notice: str | None = None
        self._claim: Claim | None = None

    def __enter__(self) -> Self:
        """Create the folder and lock it.

        Raises:
            FolderInUse: another run is using the folder; the message names its process and machine.
            UserError: the folder cannot be written to.
        """
        path = self.folder / LOCK_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="utf-8")
            self._status = self.folder.stat()
        except OSError as error:
            raise UserError(
                f"Cannot write to the output folder {self.folder} ({error.strerror}). "
                "Choose another `training_folder`, or fix its permissions."
            ) from error
        try:
            _take(self._file)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                owner = read_owner(path)
                self._file.close()
                raise FolderInUse(self._refusal(owner)) from error
            claim = Claim(self.folder)
            try:
                owner = claim.take()
            except Claimed as claimed:
                self._file.close()
                remedy = f" If you are sure that run has ended, delete {self.folder / CLAIM_FILE}."
                raise FolderInUse(self._refusal(claimed.owner) + remedy) from None
            except BaseException:
                self._file.close()
                raise
            self._claim = claim
        else:
            owner = read_owner(path)
        if owner:
            self.notice = f"Took over {self.folder}: {_describe(owner)} ended without releasing it."
        self._write(json.dumps(this_owner()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Emptied, not deleted: a run that has just opened the old file would lock a file that nobody else can see.
        with contextlib.suppress(OSError):
            self._write("")
        self._file.close()
        if self._claim is not None:
            self._claim.release()

    def must_be_in_place(self) -> None:
        """Make sure that what is written to the folder now ends up in the folder that was locked.

        Raises:
            FolderLost: there is no such folder any more, or it is another one.
        """
        if not self._is_in_place():
            what = "was replaced by another folder" if self.folder.is_dir() else "was moved or deleted"
            raise FolderLost(
                f"The output folder {self.folder} {what} while the run was using it, so nothing can be saved there. "
                "If it was moved, move it back, then start the same job again."
            )

    def _is_in_place(self) -> bool:
        path = self.folder / LOCK_FILE
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(self._file.fileno())):
                return True
        owner = read_owner(self.folder / CLAIM_FILE) or read_owner(path)
        if owner:  # some network drives number their files again
            return owner.get("process") == asdict(this_process())
        # Users delete a lock file to be rid of a lock: that moves nothing.
        with contextlib.suppress(OSError):
            return os.path.samestat(self.folder.stat(), self._status)
        return False

    def _refusal(self, owner: dict[str, Any]) -> str:
        return (
            f"{self.folder} is in use by {_describe(owner)}. Wait for it to end, stop it, or choose another name for "
            "this job (`-n NAME`, if the file says `name: [name]`, or `config.name`)."
        )

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


@dataclass(frozen=True)
class Holder:
    """A run that is using a folder, as far as this machine can tell.

    Attributes:
        pid: process ID of the run.
        host: name of the machine that it runs on.
        since: when it locked the folder, ISO 8601.
        is_elsewhere: whether it is on another machine, where it may have ended.
    """

    pid: int | None
    host: str | None
    since: str | None
    is_elsewhere: bool

    def __str__(self) -> str:
        words = f"process {self.pid} on {self.host} (since {self.since})"
        return f"{words}, if it is still running: it is on another machine" if self.is_elsewhere else words


def holder(folder: Path) -> Holder | None:
    """The run that is using a folder; None if there is none. Does not lock anything."""
    owner = read_owner(folder / CLAIM_FILE) or read_owner(folder / LOCK_FILE)
    try:
        fate = ProcessIdentity(**owner["process"]).fate if owner else "gone"
    except (KeyError, TypeError):  # its owner is writing it just now, or was killed while it did
        fate = "elsewhere"
    if fate in ("gone", "rebooted"):
        return None
    pid, host, since = owner.get("pid"), owner.get("host"), owner.get("since")
    return Holder(
        pid if isinstance(pid, int) else None,
        host if isinstance(host, str) else None,
        since if isinstance(since, str) else None,
        is_elsewhere=fate == "elsewhere",
    )


if sys.platform == "win32":
    import msvcrt

    _FAR_AWAY = 0x7FFF0000  # Windows forbids reading locked bytes, and others must be able to read the owner

    def _take(file: IO[str]) -> None:
        os.lseek(file.fileno(), _FAR_AWAY, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another run"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"
