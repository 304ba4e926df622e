"""What an output folder says about its job, as data; `run.py --status --json` prints it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.output.bundles import find_bundles
from toolkit.output.events import newest_events
from toolkit.output.lock import Holder, holder
from toolkit.output.run_record import Run, read_runs

_ENDS = ("end", "done", "error")  # of a start


@dataclass(frozen=True)
class LastRun:
    """The latest start of a job.

    Attributes:
        name: as the events call it; empty if the record is damaged.
        status: see `Run.status`.
        started: seconds since 1970; None if the record does not say.
        ended: the same, of its end; None while it runs, and if it ended without a word.
        first_step: the step that it went on from; None if it did not come so far.
        error: why it ended, as shown to the user; None if nothing went wrong.
    """

    name: str
    status: str
    started: float | None
    ended: float | None
    first_step: int | None
    error: str | None


@dataclass(frozen=True)
class FolderState:
    """One output folder.

    Attributes:
        folder: where it is.
        holder: the run that is using it; None if there is none.
        run: the latest start; None if there was none.
        step: the last step that the log has; None before the first.
        total_steps: of the whole job, as the latest start had it.
        stage: what a run that is using the folder is in, such as `check` or `train`; None if there is none.
        resumable_steps: the checkpoints that a start can continue from, lowest first.
        newest_checkpoint: the highest step with weights or a state; None without.
        damaged_steps: checkpoints that cannot be used.
    """

    folder: Path
    holder: Holder | None
    run: LastRun | None
    step: int | None
    total_steps: int | None
    stage: str | None
    resumable_steps: tuple[int, ...]
    newest_checkpoint: int | None
    damaged_steps: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON by the names of the attributes."""
        return asdict(self) | {"folder": str(self.folder)}


def folder_state(folder: Path, *, is_thorough: bool = False) -> FolderState:
    """Look at a folder; changes nothing. What is damaged counts as absent.

    Args:
        folder: a job's; one that is not there has nothing in it.
        is_thorough: read every checkpoint whole, instead of comparing the sizes of its files.
    """
    owner, runs = holder(folder), read_runs(folder)
    bundles, broken = find_bundles(folder, is_thorough=is_thorough)
    step, total_steps, stage = _progress(folder)
    return FolderState(
        folder,
        owner,
        _last_run(runs[-1]) if runs else None,
        step,
        total_steps,
        stage if owner is not None else None,
        tuple(bundle.step for bundle in bundles if bundle.has_state),
        max((bundle.step for bundle in bundles), default=None),
        tuple(fault.step for fault in broken if not fault.is_unfinished),
    )


def require_folder(folder: Path, option: str) -> None:
    """Refuse a path that is not a folder.

    Args:
        folder: what the user gave.
        option: the option of the command line that it was given to.

    Raises:
        UserError: it is not a folder.
    """
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # the name is too long, or no path can be so
        is_folder = False
    if not is_folder:
        raise UserError(f"{option} {folder}: no such folder. Give an output folder, such as output/my_job.")


def last_step(folder: Path) -> int | None:
    """The last step that the log of a folder has; None before the first."""
    steps = (event.get("step") for event in newest_events(folder / "events.jsonl") if event.get("kind") == "step")
    return next((step for step in steps if _whole(step) is not None), None)


def _progress(folder: Path) -> tuple[int | None, int | None, str | None]:
    """The last step, the steps of the whole job as its last start had them, and the stage that this start is in."""
    path = folder / "events.jsonl"
    stage, has_ended = None, False
    for event in newest_events(path, passed_over="step"):
        kind = event.get("kind")
        has_ended |= kind in _ENDS
        if kind == "stage" and event.get("state") == "started" and not has_ended:
            stage = stage or str(event.get("name"))
        if kind == "job":
            return last_step(folder), _whole(event.get("steps")), stage
    return last_step(folder), None, stage


def _last_run(run: Run) -> LastRun:
    error = run.end.get("error")
    return LastRun(
        str(run.start.get("run", "")),
        run.status,
        _moment(run.start.get("time")),
        _moment(run.end.get("time")),
        _whole(run.resumed.get("step")),
        None if error is None else str(error),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None
