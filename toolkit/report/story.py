"""What an output folder says about its job: its log and its record, as a report needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.output.events import read_events
from toolkit.output.figures import CurveReader, number, whole
from toolkit.output.run_record import Run, read_runs

_MOST_WARNINGS = 100


@dataclass(frozen=True)
class StageRow:
    """What the last start needed for one stage, beside what the memory plan predicted, in bytes; 0 for no figure."""

    name: str
    duration_s: float
    peak_ram: int
    predicted_ram: int
    peak_gpu: int
    predicted_gpu: int


@dataclass
class Story:
    """An output folder, read to its end.

    Attributes:
        name, arch: of the job.
        total_steps: as its last start had it.
        curves: its figures by step.
        checkpoints: steps at which weights were written.
        stages: of the last start.
        warnings: what the user was told, and why starts failed; each text once, oldest first.
        drawn: what the log says about each sample, by file name.
        rounds: the rounds of validation by step, as the log has them.
        runs: its starts, as recorded.
    """

    name: str = ""
    arch: str = ""
    total_steps: int = 0
    curves: CurveReader = field(default_factory=CurveReader)
    checkpoints: list[int] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    drawn: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    rounds: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that was made."""
        return self.curves.last_step

    @property
    def status(self) -> str:
        """How the last start ended, see `Run.status`."""
        return self.runs[-1].status if self.runs else "unknown"

    @property
    def seconds(self) -> float | None:
        """How long the job has trained, over all starts: the time of its steps."""
        column = self.curves.columns.get("step_s")
        return sum(column.values) if column else None


def read_story(folder: Path) -> Story:
    """Read an output folder.

    Raises:
        UserError: there is no event log in it.
    """
    story = Story(runs=read_runs(folder))
    try:
        events = read_events(folder / "events.jsonl")
        for event in events:
            _take(story, event)
    except OSError as error:
        raise UserError(f"{folder}: there is no log of a run to report on (events.jsonl): {error.strerror}.") from error
    return story


def _take(story: Story, event: Mapping[str, Any]) -> None:
    kind = event.get("kind")
    story.curves.take(event)
    if kind == "job":
        story.name, story.arch = str(event.get("name", "")), str(event.get("arch", ""))
        story.total_steps = whole(event.get("steps")) or 0
        story.stages.clear()
    elif kind == "stage" and event.get("state") == "done" and "peak_ram_bytes" in event:
        story.stages.append(_stage(event))
    elif kind == "checkpoint" and event.get("state") == "written":
        step = whole(event.get("step"))
        if step is not None and step not in story.checkpoints:
            story.checkpoints.append(step)
    elif kind == "validation" and (round_at := whole(event.get("step"))) is not None:
        for later in [step for step in story.rounds if step >= round_at]:
            del story.rounds[later]  # made again
        story.rounds[round_at] = event
    elif kind == "sample" and isinstance(event.get("path"), str):
        story.drawn[event["path"].replace("\\", "/").rpartition("/")[2]] = event
    elif kind == "warning":
        _warn(story, str(event.get("text", "")))
    elif kind == "error":
        _warn(story, f"{event.get('error', 'Error')}: {event.get('message', '')}")


def _warn(story: Story, text: str) -> None:
    if text and text not in story.warnings:
        story.warnings.append(text)
        del story.warnings[:-_MOST_WARNINGS]


def _stage(event: Mapping[str, Any]) -> StageRow:
    sizes = ("peak_ram_bytes", "predicted_ram_bytes", "peak_gpu_bytes", "predicted_gpu_bytes")
    return StageRow(
        str(event.get("name", "")),
        number(event.get("duration_s")) or 0.0,
        *(whole(event.get(key)) or 0 for key in sizes),
    )
