"""The state of a job, from its folder and its process. Nothing of it is stored."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from toolkit.output.alive import ProcessIdentity
from toolkit.output.claim import CLAIM_FILE
from toolkit.output.figures import number, whole
from toolkit.output.lock import LOCK_FILE
from toolkit.output.run_record import Run
from ui.server.jobs.launch import Launch
from ui.server.jobs.starts import is_launch_newer, is_of, name_of, process_of, wish_of
from ui.server.jobs.summary import Summary
from ui.server.schemas import JobState
from ui.server.store import Entry
from ui.server.words import ago, clean, moment

LIVE: frozenset[JobState] = frozenset(
    (
        "starting",
        "checking",
        "encoding",
        "loading",
        "training",
        "sampling",
        "saving",
        "captioning",
        "stopping",
        "unresponsive",
        "lost",
    )
)
_QUIET_S = 60.0
_QUIET_STEPS = 10
_DRAW = "draw"
_STAGES: dict[str, JobState] = {
    "check": "checking",
    "encode text": "encoding",
    "encode images": "encoding",
    "encode views": "encoding",
    "download": "loading",
    "quantize": "loading",
    "load": "loading",
    "train": "loading",  # until its first step
    "sample": "sampling",
    _DRAW: "sampling",
    "save": "saving",
    "caption": "captioning",
}


@dataclass(frozen=True)
class Signs:
    """What a state is judged by.

    Attributes:
        entry: what the index knows; None if nothing.
        launch: the last start by the page; None if there was none.
        is_launched: its process lives.
        run: the last start that the folder records; None if there was none.
        owner: what the folder's lock says about who holds it.
        summary: of the events.
        waits: why a waiting job has not been started; empty if it is not its turn.
        quiet_s: seconds since the events said something new.
        has_complained: whether the last start by the page printed a list of mistakes.
    """

    entry: Entry | None
    launch: Launch | None
    is_launched: bool
    run: Run | None
    owner: dict[str, Any]
    summary: Summary
    waits: str = ""
    quiet_s: float = 0.0
    has_complained: bool = False

    @property
    def process(self) -> ProcessIdentity | None:
        """Of the last start that the folder records."""
        return process_of(self.run)

    @property
    def wish(self) -> str:
        """What the page has asked of the last start; empty if nothing."""
        return wish_of(self.entry, self.launch, self.run)

    @property
    def is_launch_newer(self) -> bool:
        """Whether the page has started the job after the last start that is recorded."""
        return is_launch_newer(self.launch, self.run)

    @property
    def is_summary_older(self) -> bool:
        """Whether the events are still those of a former start."""
        name = name_of(self.run)
        if name and self.summary.run:
            return self.summary.run != name
        started = number(self.run.start.get("time")) if self.run else None
        return self.summary.job_time < (started or 0.0) - 1.0


def read_owner(folder: Path) -> dict[str, Any]:
    """What a folder's lock says about its owner, even if that process has died."""
    for name in (CLAIM_FILE, LOCK_FILE):
        try:
            owner = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(owner, dict) and owner:
            return owner
    return {}


def judge(signs: Signs, now: float) -> tuple[JobState, str]:
    """The state, and in words why."""
    run, process = signs.run, signs.process
    is_running = run is not None and not run.end and process is not None and process.is_alive() is True
    if is_running or signs.is_launched:
        return _live(signs, now, is_recorded=is_running)
    if signs.entry is not None and signs.entry.place:
        return _waiting(signs.entry, signs.waits)
    if signs.is_launch_newer:
        return _never_began(signs)
    if run is None:
        return "draft", "Not started yet."
    if run.end:
        return _ended(run, signs.summary)
    if process is not None and process.is_alive() is None:
        return _unseen(signs)
    end = signs.summary.end or {}
    if name_of(run) and end.get("run") == name_of(run):  # its folder was moved under it: only the log went along
        return _ended(Run(run.start, run.resumed, end), signs.summary)
    return "killed", f"The process ended unexpectedly{_at(signs)}: it was killed or ran out of memory."


def judge_lost(process: ProcessIdentity, what: str, entry: Entry | None, now: float) -> tuple[JobState, str]:
    """The state of a run that has lost its folder.

    Args:
        process: of the run; it lives.
        what: a sentence on where the folder is.
        entry: what the index knows of the job.
        now: in seconds since 1970.
    """
    if entry is not None and entry.wish:
        return "stopping", f"{what} Process {process.pid} was asked to stop {ago(now - entry.wished)} ago."
    return "lost", f"{what} Process {process.pid} still runs, and ends with an error when it next saves."


def _live(signs: Signs, now: float, *, is_recorded: bool) -> tuple[JobState, str]:
    summary, entry = signs.summary, signs.entry
    process = signs.process if is_recorded else signs.launch.process if signs.launch else None
    if process is not None and signs.wish != "kill" and _is_suspended(process):
        return "unresponsive", f"Process {process.pid} was suspended{_at(signs)}. Continue it, or force it to stop."
    if entry is not None and signs.wish:
        since = ago(now - entry.wished)
        if signs.wish == "kill":
            return "stopping", f"Force stop requested {since} ago."
        what = "It keeps its place in the queue." if signs.wish == "pause" else ""
        return "stopping", f"Stop requested {since} ago. Finishing the current step, then saving. {what}".strip()
    if not is_recorded:
        if signs.is_launch_newer:
            launched = signs.launch.time if signs.launch else now
            return "checking", f"Started {ago(now - launched)} ago. Checking the job and its data."
        return "stopping", "Finished. The process is about to exit."
    started = number(signs.run.start.get("time")) if signs.run else None
    if signs.is_summary_older:
        return "starting", f"Started {ago(now - (started or now))} ago."
    state, what = _phase(summary)
    if state == "training" and signs.quiet_s > max(_QUIET_S, _QUIET_STEPS * (summary.step_s or 0.0)):
        return "unresponsive", f"No activity for {ago(signs.quiet_s)}{_at(signs)}, but the process is still running."
    return state, what


def _phase(summary: Summary) -> tuple[JobState, str]:
    name, is_done = summary.stage
    if summary.progress is not None:
        name = str(summary.progress.get("stage", name))
        state = _STAGES.get(name, "loading")
        done, total = summary.progress.get("done"), summary.progress.get("total")
        return state, clean(f"{name}: {done} of {total}".capitalize())
    if summary.has_stepped:
        return "training", f"Step {summary.step:,} of {summary.total_steps:,}."
    if not name or is_done:
        return "loading" if name else "starting", clean(f"{name}: done." if name else "Starting.").capitalize()
    if name == "train":
        return "loading", "Loading the model."
    return _STAGES.get(name, "loading"), clean(f"{name}.".capitalize())


def _waiting(entry: Entry, waits: str) -> tuple[JobState, str]:
    if entry.place == "paused":
        return "paused", "Paused. It keeps its place in the queue until you start it again."
    return "queued", waits or "Waiting for its turn."


def _never_began(signs: Signs) -> tuple[JobState, str]:
    """A start by the page that left no record: the job was refused, or its process ended before its work began."""
    launch, end = signs.launch, signs.summary.end or {}
    assert launch is not None
    when, code = moment(launch.time), launch.exit_code
    is_own = is_of(end.get("run"), launch)
    if is_own is None:
        is_own = (number(end.get("time")) or 0.0) >= launch.time
    if code is None and is_own:  # nobody saw it end, but it has said how
        code = whole(end.get("exit_code"))
    if signs.wish or code == 130:
        return "stopped", f"Stopped during startup at {when}."
    if code is None and not signs.has_complained:
        return "killed", f"Ended unexpectedly during startup at {when}, while the page's server was not running."
    if code is None or code == 2:
        return "refused", f"Not started ({when}): the check found problems to fix first."
    if code < 0:
        return "killed", f"Killed during startup at {when} (signal {-code})."
    if code == 0:
        return "done", f"Finished at {when}: there was nothing to do."
    return "failed", f"Failed during startup at {when} (exit code {code})."


def _ended(run: Run, summary: Summary) -> tuple[JobState, str]:
    when = moment(number(run.end.get("time")))
    error = clean(str(run.end.get("error") or ""))
    first = error.strip().partition("\n")[0]
    if summary.stage[0] == _DRAW and run.status == "done":
        return "done", f"Finished at {when}."
    if summary.stage[0] == _DRAW and run.status == "interrupted":
        return "interrupted", f"Stopped at {when}. What was drawn is kept; start it again to draw the rest."
    if run.status == "done":
        return "done", f"Finished at {when} after {max(summary.step, summary.total_steps):,} steps."
    if run.status == "failed":
        return "failed", f"Failed at step {summary.step:,} ({when}): {first}"
    if run.status == "interrupted":
        saved = summary.saved if summary.saved is not None else summary.step
        return "interrupted", f"Stopped at {when}. Resumes from step {saved:,}."
    if run.status == "stopped at once":
        saved_at = f"from step {summary.saved:,}" if summary.saved is not None else "from the start"
        return "stopped", f"Stopped without saving at step {summary.step:,} ({when}). Resumes {saved_at}."
    if run.status == "refused":
        return "refused", f"Not started ({when}): {first}"
    return "failed", clean(f"Ended at {when} with status `{run.status}`, which this version doesn't know.")


def _unseen(signs: Signs) -> tuple[JobState, str]:
    """Its process was of another machine, or of this one before its last boot."""
    host, process = signs.owner.get("host"), signs.process
    if (process is not None and process.fate == "rebooted") or host == socket.gethostname():
        return "rebooted", f"Ended by a reboot of this machine{_at(signs)}."
    if host is None:
        return "killed", f"Ended unexpectedly{_at(signs)}: on another machine, or because of a reboot."
    return "elsewhere", clean(f"Running on {host} since {signs.owner.get('since')}, according to its lock file.")


def _at(signs: Signs) -> str:
    if signs.summary.job_time and (signs.summary.has_stepped or signs.summary.step):
        return f" at step {signs.summary.step:,}"
    return " before its first step"


def _is_suspended(process: ProcessIdentity) -> bool:
    try:
        return psutil.Process(process.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False
