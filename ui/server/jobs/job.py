"""One job on the page: an output folder, what has been read of it, and what can be done with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.output.run_record import RUNS_FILE, Run, read_runs
from ui.server.jobs.folders import JOB_FILE, stamp
from ui.server.jobs.follow import Follower
from ui.server.jobs.launch import LAUNCH_FILE, Launch, is_alive, mistakes_in, output_of, read_launch
from ui.server.jobs.lost import Anchor, Anchors
from ui.server.jobs.notes import NOTES_FILE, Notes, read_notes
from ui.server.jobs.settings import JobSettings, read_settings
from ui.server.jobs.starts import is_launch_newer, process_of, tokens
from ui.server.jobs.state import LIVE, Signs, judge, judge_lost, read_owner
from ui.server.jobs.summary import Summary, read_summary
from ui.server.schemas import JobState, Planned
from ui.server.store import Entry
from ui.server.words import clean

CONFIG_FILE = "config.yaml"
EVENTS_FILE = "events.jsonl"
_WATCHED = (RUNS_FILE, EVENTS_FILE, LAUNCH_FILE, NOTES_FILE, JOB_FILE, CONFIG_FILE, ".run.lock")


class Job:
    """An output folder.

    Attributes:
        id: of the job.
        root: the folder of the server that it lies in.
        folder: the output folder.
        state, reason: as they were judged last.
        entry: what the index knows of it; None if nothing.
        runs: every start that is recorded.
        launch: the last start by the page; None if there was none.
        notes: what people say about it.
        summary: of its events.
        settings: what its job text says, in few words.
        changed: when one of its files was changed last, in seconds since 1970.
        version: grows with every change that a page should see.
        waits: why the queue has not started it although it is its turn; empty if it is not.
        planned: how long its run will take; None until someone has worked that out.
        trouble: why the page could not start it; empty if it could.
        away: its living process, if the folder was moved, deleted or replaced under it: then nothing is read there.
        lost: a sentence on that, also where the folder is now; empty if its process, if any, has its folder.
    """

    def __init__(self, id_: str, root: Path, folder: Path, anchors: Anchors) -> None:
        self.id = id_
        self.root = root
        self.folder = folder
        self.state: JobState = "draft"
        self.reason = ""
        self.entry: Entry | None = None
        self.runs: list[Run] = []
        self.launch: Launch | None = None
        self.notes = Notes()
        self.summary = Summary()
        self.settings = JobSettings()
        self.changed = 0.0
        self.version = 0
        self.waits = ""
        self.planned: Planned | None = None
        self.trouble = ""
        self.away: Anchor | None = None
        self.lost = ""
        self._anchors = anchors
        self._heard = (-1.0, 0.0)
        self._stamps: tuple[Any, ...] = ()
        self._follower: Follower | None = None

    @property
    def is_live(self) -> bool:
        """Whether a process of this machine works in the folder."""
        return self.state in LIVE

    @property
    def run(self) -> Run | None:
        """The last start that is recorded."""
        return self.runs[-1] if self.runs else None

    @property
    def is_external(self) -> bool:
        """Whether the page has no job text of its own for it."""
        return not self.notes.created and self.launch is None

    @property
    def is_launch_newer(self) -> bool:
        """Whether the page has started it after the last start that is recorded: that one has left no event."""
        return is_launch_newer(self.launch, self.run)

    @property
    def last_start(self) -> str:
        """What its last start is called in the index."""
        return tokens(self.launch, self.run)[0]

    @property
    def text_path(self) -> Path:
        """Where the job text is: the user's, or where there is none, what the run was started with."""
        own = self.folder / JOB_FILE
        return own if own.exists() else self.folder / CONFIG_FILE

    @property
    def shown_text(self) -> str:
        """The job text as pages show it; empty if there is none."""
        try:
            return clean(self.text_path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return ""

    def refresh(self, entry: Entry | None, waits: str = "") -> list[dict[str, Any]]:
        """Look at the folder again. Returns the new events if a run is in progress."""
        self.away = self._anchors.away(self.id)
        if self.away is not None:
            self._lose(self.away, entry)
            return []
        stamps = tuple(stamp(self.folder / name) for name in _WATCHED)
        is_same = stamps == self._stamps and entry == self.entry
        if is_same and not self.is_live and self.state not in ("queued", "elsewhere"):
            return []
        events = self._read(stamps) if stamps != self._stamps else []
        self._stamps, self.entry, self.waits = stamps, entry, waits
        is_launched = self.launch is not None and is_alive(self.folder, self.launch)
        owner = read_owner(self.folder) if self.runs and not self.runs[-1].end else {}
        complains = not is_launched and self._has_complained()
        signs = Signs(entry, self.launch, is_launched, self.run, owner, self.summary, waits, self._quiet_s(), complains)
        before = self.state, self.reason
        self.state, self.reason = judge(signs, time.time())
        self._anchor(entry)
        if self.trouble and not self.is_live:
            self.state, self.reason = "failed", self.trouble
        if self.is_live and self._follower is None:
            self._follow()
        elif not self.is_live and self._follower is not None:
            events += self._take(self._follower.poll())
            self._follower.close()
            self._follower = None
        if not is_same or events or before != (self.state, self.reason):
            self.version += 1
        return events

    def close(self) -> None:
        """Let go of files."""
        if self._follower is not None:
            self._follower.close()

    def _lose(self, anchor: Anchor, entry: Entry | None) -> None:
        """What is said about a run without its folder. What was read there before is kept."""
        before = self.state, self.reason
        self.entry = entry
        self.launch = self.launch or anchor.launch
        self.lost = (
            "Its folder was replaced by another one while it ran."
            if self.folder.is_dir()
            else "Its folder was moved or deleted while it ran."
        )
        self.state, self.reason = judge_lost(anchor.process, self.lost, entry, time.time())
        self.version += before != (self.state, self.reason)

    def _anchor(self, entry: Entry | None) -> None:
        """Remember the process that works here, and see whether it came with a folder that was moved."""
        self.lost = ""
        process = process_of(self.run)
        is_recorded = self.run is not None and not self.run.end and process is not None and not self.is_launch_newer
        started = self.run.start.get("time") if self.run and is_recorded else None
        if not is_recorded and self.launch is not None:
            process, started = self.launch.process, self.launch.time
        is_known = process is not None and process.is_alive() is True
        if not self.is_live or not is_known or process is None or not isinstance(started, int | float):
            self._anchors.forget(self.id)
            return
        anchor = Anchor(self.id, self.folder, process, self.launch, float(started))
        origin = self._anchors.origin(anchor)
        if origin is None:
            self._anchors.keep(anchor)
            return
        self.lost = f"Its folder was moved here from {origin.folder} while it ran."
        self.state, self.reason = judge_lost(process, self.lost, entry, time.time())

    def _has_complained(self) -> bool:
        """Whether a start that nobody saw end, and that left no event, printed a list of mistakes."""
        if self.launch is None or self.launch.exit_code is not None or not self.is_launch_newer:
            return False
        return bool(mistakes_in(output_of(self.folder, self.launch))[0])

    def _quiet_s(self) -> float:
        """Seconds since the events said something new, by a clock that nobody sets."""
        now = time.monotonic()
        if self.summary.last_time != self._heard[0]:
            is_first = self._heard[0] < 0
            before_s = max(0.0, time.time() - self.summary.last_time) if is_first else 0.0
            self._heard = self.summary.last_time, now - before_s
        return now - self._heard[1]

    def _read(self, stamps: Sequence[Any]) -> list[dict[str, Any]]:
        now = dict(zip(_WATCHED, stamps, strict=True))
        before = dict(zip(_WATCHED, self._stamps, strict=True)) if self._stamps else dict.fromkeys(_WATCHED, ())
        changed = {name for name in _WATCHED if now[name] != before[name]}
        if RUNS_FILE in changed:
            self.runs = read_runs(self.folder)
        if LAUNCH_FILE in changed:
            self.launch = read_launch(self.folder)
        if NOTES_FILE in changed:
            self.notes = read_notes(self.folder)
        if changed & {JOB_FILE, CONFIG_FILE}:
            self.settings = read_settings(self.text_path)
        self.changed = max((found[2] / 1e9 for found in now.values() if found), default=0.0)
        if EVENTS_FILE not in changed:
            return []
        if self._follower is None:
            self.summary = read_summary(self.folder / EVENTS_FILE)
            return []
        return self._take(self._follower.poll())

    def _follow(self) -> None:
        self._follower = Follower(self.folder / EVENTS_FILE)
        self.summary = read_summary(self.folder / EVENTS_FILE)
        backlog = self._follower.poll()
        if backlog:
            self.summary = Summary()
            self.summary.take(backlog)
            if not self.summary.job_time:  # it began in an older file
                early = read_summary(self.folder / EVENTS_FILE)
                self.summary = replace(early) if early.job_time else self.summary

    def _take(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        with contextlib.suppress(ValueError, TypeError):
            self.summary.take(events)
        return events
