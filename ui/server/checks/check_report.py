"""What a check has found, as the page shows it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.config import JobConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem as Said
from toolkit.output.disk import free_bytes
from ui.server.checks.checker import CheckResult
from ui.server.checks.download import Download, download_of
from ui.server.checks.fixes import way_to_fit, with_fix
from ui.server.jobs.text import as_problem
from ui.server.schemas import (
    Bucket,
    CheckReport,
    DatasetTable,
    Estimate,
    MemoryReport,
    Phase,
    Problem,
    Way,
)
from ui.server.words import clean


def report_of(
    found: CheckResult, estimate: Estimate | None, tree: Any = None, *, environment: Mapping[str, str] = os.environ
) -> CheckReport:
    """All that is to be said about a job before it starts.

    Args:
        found: by the trainer's check.
        estimate: how long it will take.
        tree: the job as written, for the changes that fix its problems.
        environment: variables that its run will have.
    """
    facts = found.facts
    process: Mapping[str, Any] = facts["processes"][0] if facts["processes"] else {}
    download = _download(found.config, environment)
    resume = process.get("resume") or {}
    folder = process.get("output_folder")
    return CheckReport(
        ok=bool(facts["ok"]),
        name=_or_none(facts["name"]),
        problems=[with_fix(problem, tree) for problem in _problems(facts, download)],
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


def unchecked(problems: Sequence[Problem]) -> CheckReport:
    """The report of a text that was not checked further: it names what this server must not read."""
    return CheckReport(
        ok=False,
        name=None,
        problems=list(problems),
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
    """Errors first, then warnings and notices; duplicates are shown once."""
    parts = [facts, *facts["processes"]]
    for part in parts:
        fit = way_to_fit(part.get("memory"))
        for it in part["problems"]:
            problem = as_problem(Said(**it))
            yield problem.model_copy(update={"fix": fit}) if fit and it["where"] == "memory" else problem
    remarks = [as_problem(Said(**it)) for part in parts for it in part["remarks"]]
    if download is not None and download.gate:
        remarks.append(Problem(severity="warning", where="model.name_or_path", what=clean(download.gate)))
    first: dict[str, Problem] = {}
    for problem in remarks:
        first.setdefault(problem.what, problem)
    yield from sorted(first.values(), key=lambda it: it.severity != "warning")


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


def _download(config: JobConfig | None, environment: Mapping[str, str]) -> Download | None:
    if config is None:
        return None
    process = config.config.process[0]
    if not isinstance(process, TrainingProcessConfig):
        return None
    card = process.card
    return None if card is None else download_of(card, process.model.name_or_path, environment)


def _free(folder: str | None) -> int | None:
    try:
        return None if folder is None else free_bytes(Path(folder))
    except (OSError, ValueError):
        return None


def _or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)
