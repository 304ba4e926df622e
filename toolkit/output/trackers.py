"""Experiment trackers: Weights & Biases and trackio, which are shown what the event log says."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.output.figures import curves_in, whole

Take = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Tracked:
    """What a tracker gets to know about a run before its first step.

    Attributes:
        project: that the run is shown in.
        name: of the run.
        group: of runs that belong together: the job.
        config: settings by key; secrets have been removed.
        folder: the output folder.
    """

    project: str
    name: str
    group: str
    config: Mapping[str, Any]
    folder: Path


@contextlib.contextmanager
def tracking(names: Sequence[str], run: Tracked, warn: Callable[[str], None]) -> Iterator[Take]:
    """Open trackers for the `with` block. Yields what takes each event of the log.

    A tracker that fails is reported and left alone from then on: it never ends a run.

    Args:
        names: of the trackers, keys of `TRACKERS`.
        run: what is tracked.
        warn: tells the user.
    """
    opened: dict[str, Any] = {}

    def guarded(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # whatever it is, it is another program's
            opened.pop(name, None)
            warn(f"{name} gets no more data: {type(error).__name__}: {error}")
            return None

    last_step = 0

    def take(event: Mapping[str, Any]) -> None:
        nonlocal last_step
        step = whole(event.get("step"))
        last_step = last_step if step is None else step
        for name, tracker in list(opened.items()):
            guarded(name, partial(_tell, tracker, importlib.import_module(name), event, last_step, run.folder))

    for name in names:
        made = guarded(name, partial(TRACKERS[name], run))
        if made is not None:
            opened[name] = made
    try:
        yield take
    finally:
        for name, tracker in list(opened.items()):
            guarded(name, tracker.finish)


def _tell(tracker: Any, module: Any, event: Mapping[str, Any], step: int, folder: Path) -> None:
    if event.get("kind") == "sample":
        picture = module.Image(str(folder / str(event["path"])), caption=str(event.get("prompt", "")))
        tracker.log({f"samples/{event.get('index')}": picture}, step=step)
    elif figures := dict(curves_in(event)):
        tracker.log(figures, step=step)


def _open_wandb(run: Tracked) -> Any:
    import wandb

    # What it would collect by itself names the machine and its command line, with what is in it.
    settings = wandb.Settings(console="off", disable_git=True, save_code=False, x_disable_meta=True, silent=True)
    return wandb.init(
        project=run.project,
        name=run.name,
        group=run.group,
        config=dict(run.config),
        dir=str(run.folder),
        settings=settings,
    )


def _open_trackio(run: Tracked) -> Any:
    import trackio

    return trackio.init(
        project=run.project,
        name=run.name,
        group=run.group,
        config=dict(run.config),
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )


TRACKERS: dict[str, Callable[[Tracked], Any]] = {"wandb": _open_wandb, "trackio": _open_trackio}
"""Tracker, which is the name of its package too -> what opens it."""
