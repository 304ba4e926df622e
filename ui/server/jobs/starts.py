"""Which start of a job was the last. Told by the names that starts have, not by their times: clocks are set back."""

from __future__ import annotations

from toolkit.output.alive import ProcessIdentity
from toolkit.output.figures import number
from toolkit.output.run_record import Run, start_name
from ui.server.jobs.launch import Launch
from ui.server.store import Entry, Wish

NEVER = "never"


def is_launch_newer(launch: Launch | None, run: Run | None) -> bool:
    """Whether the page has started a job after the last start that its folder records.

    Args:
        launch: the last start by the page; None if there was none.
        run: the last start that the folder records; None if there was none.
    """
    if launch is None:
        return False
    if launch.after_run is not None:
        return launch.after_run == name_of(run)
    started = number(run.start.get("time")) if run else None  # started by an older version
    return started is None or launch.time > started


def name_of(run: Run | None) -> str:
    """The name of a start that the folder records; empty if there was none."""
    return str(run.start.get("run") or "") if run else ""


def process_of(run: Run | None) -> ProcessIdentity | None:
    """The process of a start that the folder records."""
    try:
        return ProcessIdentity(**run.start["process"]) if run else None
    except (KeyError, TypeError):
        return None


def token_of(launch: Launch | None) -> str:
    """What a start by the page is called in the index."""
    return NEVER if launch is None else f"launch {launch.time!r}"


def tokens(launch: Launch | None, run: Run | None) -> tuple[str, ...]:
    """What the last start of a job is called in the index; the first is for what is written now."""
    if is_launch_newer(launch, run):
        return (token_of(launch),)
    if launch is not None and launch.process is not None and launch.process == process_of(run):
        return name_of(run), token_of(launch)
    return (name_of(run) or NEVER,)


def wish_of(entry: Entry | None, launch: Launch | None, run: Run | None) -> Wish:
    """What the page has asked of the last start of a job, and not of one before it; empty if nothing.

    Args:
        entry: what the index knows of the job; None if nothing.
        launch: the last start by the page; None if there was none.
        run: the last start that the folder records; None if there was none.
    """
    if entry is None or not entry.wish:
        return ""
    if entry.start:
        return entry.wish if entry.start in tokens(launch, run) else ""
    started = [  # of an older version
        launch.time if launch else 0.0,
        number(run.start.get("time")) or 0.0 if run else 0.0,
    ]
    return entry.wish if entry.wished >= max(started) else ""


def is_of(name: object, launch: Launch) -> bool | None:
    """Whether an event that names its start was written by a start of the page; None if that cannot be told."""
    if not isinstance(name, str) or not name or launch.process is None:
        return None
    return name == start_name(launch.process)
