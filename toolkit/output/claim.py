"""Claims a folder on a drive without file locks, by files that only one process can create."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import secrets
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.output.alive import ProcessIdentity, this_process

CLAIM_FILE = ".run.claim"


class Claimed(Exception):
    """Another process, which may still be running, has claimed the folder.

    Attributes:
        owner: what it wrote about itself; empty if it is still writing that, or was killed while it did.
    """

    def __init__(self, owner: dict[str, Any]) -> None:
        super().__init__(owner)
        self.owner = owner


class Claim:
    """The claim of this process to a folder.

    The claim file names its owner. It is never taken away from a dead owner, as two starts at once could then each
    remove the other's new claim: who wants to follow a dead owner creates a file that is named after that owner, which
    only one process can, and puts it in the place of the claim in one step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / CLAIM_FILE
        self._owner = {**this_owner(), "claim": secrets.token_hex(8)}

    def take(self) -> dict[str, Any]:
        """Claim the folder. Returns the dead owner of an earlier claim; empty if there was none.

        Raises:
            Claimed: its owner may still be running.
            OSError: the claim cannot be written.
        """
        dead: dict[str, Any] = {}
        while not self._create(self._file):
            dead = self._dead_owner()
            if not dead:  # it ended properly just now
                continue
            heir = self._heir(dead)
            if not self._create(heir):
                continue
            # A slow start may follow an owner that others have followed since; then nothing leads to its file.
            if self._last_owner() == self._owner:
                heir.replace(self._file)
                break
            heir.unlink(missing_ok=True)
        for leftover in self._folder.glob(f"{CLAIM_FILE}-*"):
            leftover.unlink(missing_ok=True)
        return dead

    def release(self) -> None:
        """Give the folder back, if it is still claimed by this process."""
        if read_owner(self._file) == self._owner:
            self._file.unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        """Create a file that names this process as owner; False if there is one."""
        with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(self._owner))
            return True
        return False

    def _dead_owner(self) -> dict[str, Any]:
        owner = self._last_owner()
        if owner is not None and _is_alive(owner) is not False:
            raise Claimed(owner)
        return owner or {}

    def _last_owner(self) -> dict[str, Any] | None:
        """Who followed the owner in the claim file, and whoever followed them; None if nobody has claimed the folder.

        Whoever followed a dead owner may have been killed before its file was the claim.
        """
        if not self._file.exists():
            return None
        owner = read_owner(self._file)
        while owner and (heir := self._heir(owner)).exists():
            owner = read_owner(heir)
        return owner

    def _heir(self, dead: dict[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(dead, sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{CLAIM_FILE}-{name}"


def this_owner() -> dict[str, Any]:
    """What the current process writes about itself into a folder that it uses."""
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    identity = this_process()
    return {"pid": identity.pid, "host": socket.gethostname(), "since": since, "process": asdict(identity)}


def read_owner(path: Path) -> dict[str, Any]:
    """What a process wrote about itself; empty if there is no such file, or its owner never finished it."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_alive(owner: dict[str, Any]) -> bool | None:
    try:
        return ProcessIdentity(**owner["process"]).is_alive()
    except (KeyError, TypeError):  # empty: its owner is still writing it, or was killed while writing
        return None
