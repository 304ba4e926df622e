"""Where a run is killed or gets signals: at a moment, or before one of its own file operations.

Python announces file operations to audit hooks, so the trainer needs no hook of its own: a run that is to die before
its fifth checkpoint write is an ordinary run with an audit hook that counts. It is armed in a process that is about to
be killed, never in the tests' own: an audit hook cannot be removed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.output.events import EventKind, EventLog

CACHES = ("_latent_cache", "_t_e_cache", "_clip_vision_cache")


@dataclass(frozen=True)
class Aim:
    """Strike at the `nth` operation (from 1) of the kind `place`, a key of `PLACES` or `EVENT_LOG`.

    Attributes:
        place: see above.
        nth: see above.
        signals: names of the signals that come there, one after another; none kills.
    """

    place: str
    nth: int
    signals: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `Aim(**it)` is the aim again."""
        return asdict(self)


def _is_checkpoint(operation: str, path: Path) -> bool:
    return operation != "remove" and path.suffix == ".safetensors" and not _is_cache(operation, path)


def _is_manifest(operation: str, path: Path) -> bool:
    return operation != "remove" and path.suffix == ".json" and "state" in path.parts


def _is_prune(operation: str, path: Path) -> bool:
    is_output = "state" in path.parts or path.suffix == ".safetensors"
    return operation == "remove" and is_output and not path.name.startswith(".part-") and not _is_cache(operation, path)


def _is_cache(operation: str, path: Path) -> bool:
    return any(part in CACHES for part in path.parts)


def _is_sample(operation: str, path: Path) -> bool:
    return "samples" in path.parts


def _is_picture(operation: str, path: Path) -> bool:
    return "pictures" in path.parts and path.suffix == ".png"


EVENT_LOG = "event log"
PLACES: dict[str, Callable[[str, Path], bool]] = {
    "checkpoint": _is_checkpoint,
    "manifest": _is_manifest,
    "prune": _is_prune,
    "cache": _is_cache,
    "sample": _is_sample,
    "picture": _is_picture,
}


class Faults:
    """Counts the file operations of this process by place, and kills it when it comes to where it is to die.

    An operation is `write` (a file is opened to be written), `sync`, `rename` or `remove`. Death comes before it; at a
    `sync` the file first loses its end, as if death had come while it was being written.

    Args:
        aim: where to die; None counts only.
        seed: chooses how much of a torn file is left.
    """

    def __init__(self, aim: Aim | None, *, seed: int = 0) -> None:
        self.aim = aim
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._is_own = False

    def arm(self) -> None:
        """From now on."""
        self._sync, self._write_event = os.fsync, EventLog.write
        sys.addaudithook(self._on_audit)
        os.fsync = self._on_sync  # type: ignore[assignment]
        faults = self
        EventLog.write = lambda log, kind, **fields: faults._on_event(log, kind, fields)  # type: ignore[method-assign]

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_own:
            return
        if event == "open" and isinstance(arguments[0], str) and _writes(*arguments[1:3]):
            self._happens("write", arguments[0])
        elif event == "os.rename":
            self._happens("rename", arguments[1])
        elif event in ("os.remove", "os.rmdir"):
            self._happens("remove", arguments[0])

    def _on_sync(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_file():
            self._happens("sync", str(path), torn=handle)
        self._sync(handle)

    def _on_event(self, log: EventLog, kind: EventKind, fields: dict[str, Any]) -> None:
        before = log.path.stat().st_size
        self._write_event(log, kind, **fields)
        self.counts[EVENT_LOG] += 1
        if self.aim == Aim(EVENT_LOG, self.counts[EVENT_LOG]):
            written = max(log.path.stat().st_size - before, 1)
            os.truncate(log.path, before + self._random.randrange(written))
            die()

    def _happens(self, operation: str, path: str, *, torn: int | None = None) -> None:
        place = Path(os.fsdecode(path))
        for name, is_here in PLACES.items():
            if is_here(operation, place):
                self.counts[name] += 1
                if self.aim and (self.aim.place, self.aim.nth) == (name, self.counts[name]):
                    self._strike(self.aim, torn)

    def _strike(self, aim: Aim, torn: int | None) -> None:
        for name in aim.signals:
            os.kill(os.getpid(), signal.Signals[name])
        if not aim.signals:
            if torn is not None:
                os.ftruncate(torn, self._random.randrange(os.fstat(torn).st_size + 1))
            die()

    def write_counts(self, path: Path) -> None:
        """Say how often each place was passed, so that a later run can be aimed."""
        self._is_own = True
        path.write_text(json.dumps(self.counts), encoding="utf-8")


def die() -> None:
    """SIGKILL: nothing is flushed, closed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else any(letter in mode for letter in "wax+")
