"""Puts a report together and writes it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.files import write_text
from toolkit.output.run_record import Run
from toolkit.report.charts import HEIGHT, WIDTH, charts
from toolkit.report.pictures import sample_matrix
from toolkit.report.settings import read_settings
from toolkit.report.story import Story, read_story
from toolkit.report.validation import best_round, validation_charts
from toolkit.units import as_size, duration
from toolkit.version import VERSION

if TYPE_CHECKING:
    from jinja2 import Template

REPORT_FILE = "report.html"
MOST_BYTES = 5_000_000
_FOR_TEXT = 1_000_000  # curves, settings and thumbnails; the samples may take the rest
_MOST_RUNS = 50
_TEMPLATE = "report.html.jinja"


def write_report(folder: Path) -> Path:
    """Write `report.html` into an output folder: one file of at most 5 MB. Returns its path.

    Raises:
        UserError: there is no log of a run in the folder.
        OSError: the file cannot be written.
    """
    path = folder / REPORT_FILE
    write_text(path, render_report(folder))
    return path


def render_report(folder: Path) -> str:
    """The report of an output folder as a page, without writing it.

    Raises:
        UserError: there is no log of a run in the folder.
    """
    story, settings = read_story(folder), read_settings(folder)
    page = _template().render(
        name=story.name or folder.resolve().name,
        story=story,
        facts=list(_facts(story)),
        charts=charts(story.curves.columns, story.checkpoints),
        validation=validation_charts(story.rounds, story.checkpoints),
        best=best_round(story.rounds),
        chart_size=(WIDTH, HEIGHT),
        matrix=sample_matrix(folder, story.drawn, most_bytes=MOST_BYTES - _FOR_TEXT),
        settings=settings,
        runs=[_run_row(run) for run in story.runs[-_MOST_RUNS:]],
        num_runs=len(story.runs),
        versions=_versions(story),
        as_size=as_size,
        duration=duration,
        made=time.strftime("%Y-%m-%d %H:%M"),
        version=VERSION,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # names of files may hold bytes that are no text


@functools.cache
def _template() -> Template:
    """The page, compiled once a process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only a report needs it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(_TEMPLATE)


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    """What stands at the top: a name and a value each."""
    yield "Status", story.status
    total = f" of {story.total_steps:,}" if story.total_steps else ""
    yield "Steps", f"{story.step:,}{total}"
    if story.seconds is not None:
        yield "Time in steps", duration(story.seconds)
    if story.arch:
        yield "Model", story.arch
    device = next((run.resumed["device"] for run in reversed(story.runs) if "device" in run.resumed), None)
    if device is not None:
        yield "Device", str(device)


def _run_row(run: Run) -> dict[str, str]:
    """A start, for the table."""
    error = str(run.end.get("error") or "").splitlines()
    return {
        "started": _moment(run.start.get("time")),
        "first_step": str(run.resumed.get("step", "-")),
        "last_step": str(run.end.get("step") if run.end.get("step") is not None else "-"),
        "status": run.status,
        "command": str(run.start.get("command", "")),
        "error": error[0] if error else "",
    }


def _versions(story: Story) -> dict[str, str]:
    start: dict[str, Any] = story.runs[-1].start if story.runs else {}
    found = start.get("versions")
    named = {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
    return named | ({"commit": str(start["commit"])} if start.get("commit") else {})


def _moment(seconds: object) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(seconds))))
    except (ValueError, OverflowError, OSError):
        return "-"
