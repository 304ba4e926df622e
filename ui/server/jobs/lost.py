"""Runs whose folder was moved, deleted or replaced while they ran, known by the process that worked in it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.output.alive import ProcessIdentity
from toolkit.output.run_record import read_runs
from ui.server.jobs.launch import Launch, launch_from, read_launch
from ui.server.jobs.starts import process_of
from ui.server.jobs.state import read_owner
from ui.server.store import Store

_PREFIX = "run of "


@dataclass(frozen=True)
class Anchor:
    """A process that was seen to work in a folder.

    Attributes:
        id: of the job.
        folder: where it worked.
        process: the process.
        launch: its start; None if the page did not start it.
        time: when it began there, as its files say: a folder that is moved takes them along.
    """

    id: str
    folder: Path
    process: ProcessIdentity
    launch: Launch | None
    time: float


class Anchors:
    """Which process works in which folder, for as long as it lives. Kept in the index, for a server that restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Anchor] | None = None

    def alive(self) -> list[Anchor]:
        """Those whose process still lives; others are forgotten."""
        for anchor in list(self._all().values()):
            if anchor.process.is_alive() is not True:
                self.forget(anchor.id)
        return list(self._all().values())

    def keep(self, anchor: Anchor) -> None:
        """Remember a process that works in the folder of a job."""
        if self._all().get(anchor.id) != anchor:
            self._all()[anchor.id] = anchor
            self._store.set_fact(f"{_PREFIX}{anchor.id}", _text(anchor))

    def forget(self, id_: str) -> None:
        """Forget the process of a job that has ended its work there."""
        if self._all().pop(id_, None) is not None:
            self._store.set_fact(f"{_PREFIX}{id_}", "")

    def of(self, id_: str) -> Anchor | None:
        """The process that was seen to work in the folder of a job, if it lives."""
        anchor = self._all().get(id_)
        if anchor is not None and anchor.process.is_alive() is not True:
            self.forget(id_)
            return None
        return anchor

    def away(self, id_: str) -> Anchor | None:
        """The living process of a job that has lost its folder."""
        anchor = self.of(id_)
        return None if anchor is None or holds(anchor.folder, anchor.process) else anchor

    def origin(self, found: Anchor) -> Anchor | None:
        """Where a living process worked before its folder was moved to where it was found; None if it was not."""
        for anchor in list(self._all().values()):
            is_same = (anchor.process, anchor.time) == (found.process, found.time)
            if anchor.id != found.id and is_same and self.away(anchor.id) is not None:
                return anchor
        return None

    def living_in(self, folder: Path) -> ProcessIdentity | None:
        """The living process that worked in a folder."""
        return next((anchor.process for anchor in self.alive() if anchor.folder == folder), None)

    def _all(self) -> dict[str, Anchor]:
        if self._known is None:
            found = (_read(key.removeprefix(_PREFIX), text) for key, text in self._store.facts(_PREFIX).items())
            self._known = {anchor.id: anchor for anchor in found if anchor is not None}
        return self._known


def holds(folder: Path, process: ProcessIdentity) -> bool:
    """Whether a folder is still the one that a living process began to work in: its files name the process."""
    with contextlib.suppress(KeyError, TypeError):
        if ProcessIdentity(**read_owner(folder)["process"]) == process:
            return True
    launch = read_launch(folder)
    if launch is not None and launch.process == process:
        return True
    return any(process_of(run) == process for run in read_runs(folder)[-2:])


def _text(anchor: Anchor) -> str:
    launch = None if anchor.launch is None else asdict(anchor.launch)
    return json.dumps(
        {"folder": str(anchor.folder), "process": asdict(anchor.process), "launch": launch, "time": anchor.time}
    )


def _read(id_: str, text: str) -> Anchor | None:
    try:
        found = json.loads(text)
        launch = None if found["launch"] is None else launch_from(found["launch"])
        return Anchor(id_, Path(found["folder"]), ProcessIdentity(**found["process"]), launch, float(found["time"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
