"""What a check has found, as the page shows it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.cards import find_cards
from toolkit.config import JobConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.output.disk import free_bytes
from ui.server.checks.checker import Found
from ui.server.checks.download import Download, download_of
from ui.server.checks.marks import Marks
from ui.server.jobs.text import as_problem
from ui.server.schemas import (
    Bucket,
    CheckReport,
    DatasetTable,
    Estimate,
    Fix,
    MemoryReport,
    Phase,
    Problem,
    Severity,
    Way,
)
from ui.server.words import clean

_NOT_WARNED = "warning: "


def report_of(found: Found, text: str, outside: Sequence[Problem], estimate: Estimate | None) -> CheckReport:
    """All that is to be said of a job before it starts.

    Args:
        found: by the trainer's check.
        text: of the job.
        outside: paths that lead out of the roots.
        estimate: how long it will take.
    """
    facts = found.facts
    process: Mapping[str, Any] = facts["processes"][0] if facts["processes"] else {}
    download = _download(found.config)
    marks = Marks(text)
    problems = [*outside, *_problems(facts, download)]
    resume = process.get("resume") or {}
    folder = process.get("output_folder")
    return CheckReport(
        ok=bool(facts["ok"]) and not outside,
        name=_or_none(facts["name"]),
        problems=[marks.placed(problem) for problem in problems],
        lines=[clean(line) for it in facts["processes"] for line in it["lines"]],
        datasets=[_table(table) for table in process.get("datasets") or ()],
        memory=_memory(process.get("memory")),
        disk={name.removesuffix("_bytes"): int(size) for name, size in (process.get("disk") or {}).items()},
        free_disk_bytes=_free(folder),
        download_bytes=download.num_bytes if download else None,
        licence=download.licence if download else None,
        gate=download.gate if download else None,
        estimate=estimate,
        resume_step=resume.get("step") if resume.get("checkpoint") else None,
        superseded_steps=list(resume.get("superseded_steps") or ()),
        output_folder=_or_none(folder),
    )


def unchecked(text: str, problems: Sequence[Problem]) -> CheckReport:
    """The report of a text that was not looked at further: it names what this server must not read."""
    marks = Marks(text)
    return CheckReport(
        ok=False,
        name=None,
        problems=[marks.placed(problem) for problem in problems],
        lines=[],
        datasets=[],
        memory=None,
        disk={},
        free_disk_bytes=None,
        download_bytes=None,
        licence=None,
        gate=None,
        estimate=None,
        resume_step=None,
        superseded_steps=[],
        output_folder=None,
    )


def _problems(facts: Mapping[str, Any], download: Download | None) -> Iterable[Problem]:
    """Errors first, then warnings and notices; of two with the same words one."""
    yield from (as_problem(it["where"], it["what"]) for it in facts["problems"])
    notices: list[str] = list(facts["notices"])
    for process in facts["processes"]:
        yield from (as_problem(it["where"], it["what"]) for it in process["problems"])
        notices += process["notices"]
    if download is not None and download.gate:
        notices.append(f"{_NOT_WARNED}{download.gate}")
    found = [_notice(text) for text in dict.fromkeys(notices)]
    yield from sorted(found, key=lambda it: it.severity != "warning")


def _notice(text: str) -> Problem:
    severity: Severity = "warning" if text.startswith(_NOT_WARNED) else "notice"
    text = text.removeprefix(_NOT_WARNED)
    where, colon, what = text.partition(": ")
    is_key = bool(colon) and where.startswith("config.") and " " not in where
    problem = as_problem(where, what) if is_key else as_problem("", text)
    return problem.model_copy(update={"severity": severity})


def _table(table: Mapping[str, Any]) -> DatasetTable:
    return DatasetTable(
        source=clean(str(table["source"])),
        resolution=table["resolution"],
        num_images=table["num_images"],
        num_captions=table["num_captions"],
        num_skipped=table["num_skipped"],
        num_references=table["num_references"],
        is_reg=table["is_reg"],
        buckets=[Bucket(**bucket) for bucket in table["buckets"]],
    )


def _memory(memory: Mapping[str, Any] | None) -> MemoryReport | None:
    if memory is None:
        return None
    machine = memory["machine"]
    return MemoryReport(
        fits=memory["fits"],
        device=memory["device"],
        card=machine["name"],
        gpu_bytes=machine["gpu_bytes"],
        free_gpu_bytes=machine["free_gpu_bytes"],
        ram_bytes=machine["ram_bytes"],
        free_ram_bytes=machine["free_ram_bytes"],
        peak_gpu_bytes=memory["peak_gpu_bytes"],
        peak_ram_bytes=memory["peak_ram_bytes"],
        phases=[
            Phase(
                name=phase["name"],
                stage=phase["stage"],
                gpu_bytes=phase["gpu_bytes"],
                ram_bytes=phase["ram_bytes"],
                parts=phase["parts"],
            )
            for phase in memory["phases"]
        ],
        ways=[Way(**way) for way in memory["ways"]],
    )


def fix_of(way: Way) -> Fix:
    """A way to fit as edits of the job text."""
    said = ", ".join(f"{key}: {json.dumps(value)}" for key, value in way.settings.items())
    return Fix(label=said, edits=way.settings)


def _download(config: JobConfig | None) -> Download | None:
    if config is None:
        return None
    process = config.config.process[0]
    if not isinstance(process, TrainingProcessConfig):
        return None
    card = find_cards().get(process.model.arch)
    return None if card is None else download_of(card, process.model.name_or_path, os.environ)


def _free(folder: str | None) -> int | None:
    try:
        return None if folder is None else free_bytes(Path(folder))
    except (OSError, ValueError):
        return None


def _or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)
