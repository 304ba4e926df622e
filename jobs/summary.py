"""The summary that is printed when all jobs have ended, whether or not they succeeded."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.job import JobResult
from toolkit.units import duration

_WORTH_A_LOOK = (
    ("weights", "{name}.safetensors"),
    ("weights", "{name}/"),  # a full fine-tune saved as a folder
    ("samples", "samples/grid.jpg"),
    ("report", "report.html"),
    ("log", "events.jsonl"),
)


def summary(results: Sequence[JobResult]) -> str:
    """One line per job, followed by the locations of its output."""
    width = max(len(result.name) for result in results)
    lines = ["", "Summary"]
    for result in results:
        lines.append(f"  {result.name:<{width}}  {result.status:<11}  {duration(result.seconds)}")
        if result.status in ("done", "failed", "interrupted"):
            lines += [f"    {line}" for line in _locations(result)]
    return "\n".join(lines)


def _locations(result: JobResult) -> list[str]:
    lines = []
    for folder in result.folders:
        if folder.is_dir():
            lines.append(f"folder   {folder}")
            for label, pattern in _WORTH_A_LOOK:
                path = folder / pattern.format(name=result.name)
                if path.exists():
                    lines.append(f"{label:<8} {path}")
    return lines
