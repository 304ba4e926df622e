"""`run.py --check --json`: the result of a check as one JSON document for programs, with secrets redacted.

    {
      "ok": true,                       false if any job has problems; the exit code is then 2
      "broken_extensions": [text],      extensions that were skipped
      "jobs": [{
        "job_file": path,
        "name": text,                   null if the file cannot be read
        "ok": true,
        "notices": [text],              of the job file
        "remarks": [problem],           the notices as data
        "problems": [problem],          of the job file
        "refusal": text,                the problems as the command line prints them; empty if there are none
        "processes": [{
          "type": text,                 the kind of process
          "output_folder": path,
          "ok": true,
          "lines": [text],              the plan as the command line prints it
          "notices": [text],            those of the lines that deserve attention
          "remarks": [problem],         the notices as data
          "problems": [problem],
          "refusal": text,
          ...                           what the kind of process adds
        }]
      }]
    }

A problem is `{"where": text, "what": text, "severity": "error", "warning" or "notice", "suggestion": text or null,
"line": number or null, "column": number or null}`: where it is (a key of the job file, a file, or empty); what is wrong
and what to do about it; the nearest valid spelling; its position in the job file, counted from 1. Keys start at the top
of the file (`config.process`) or, for what a process finds, below its entry (`datasets[0].resolution`). After a
problem, the later facts of the process are empty, and later processes of its job are not checked.

A training process adds:

    "datasets": [{"dataset_index", "source", "resolution", "num_images", "num_captions", "uses_captions", "num_skipped",
                  "num_copies", "num_references", "is_reg", "buckets": [{"width", "height", "examples"}]}]
    "needs": {"captions", "texts", "pictures", "views": numbers,
              "resident": [{"component", "reason"}], "passes": {"with_gradient", "without_gradient"}}
    "validation": null, or {"passes", "base_passes", "rounds", "round_s"}: forward passes of a round, and of scoring the
                  base model; number of rounds; seconds of a round as the run has measured them, null before its first
    "memory": null if nothing is predicted, else {
        "device", "device_name", "fits", "peak_gpu_bytes", "peak_ram_bytes",
        "phases": [{"name", "stage", "gpu_bytes", "ram_bytes", "parts": {name: bytes}}],
        "machine": {"name", "gpu_bytes", "free_gpu_bytes", "ram_bytes", "free_ram_bytes"},   null: unknown
        "ways": [{"settings": {key: value}, "peak_gpu_bytes", "peak_ram_bytes"}]}            what would make it fit
    "disk": {"checkpoints_bytes", "latents_bytes", "captions_bytes"}    upper estimates
    "resume": {"step", "checkpoint": path or null, "superseded_steps": [numbers],
               "differences": [{"key", "before", "now": JSON as text, "is_harmless"}]}  settings that the checkpoint had
                                        otherwise; one that is not harmless is a problem until it is accepted
    "settings": {key: value}            keys of the `model` section that `memory: auto` has chosen
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from jobs.process.checked import Checked, remark
from toolkit.config import JobConfig
from toolkit.config.reading.text_positions import located
from toolkit.errors import Problem, UserError, problems_of


def job_facts(config: JobConfig, checks: Sequence[Checked]) -> dict[str, Any]:
    """The document's entry for a job whose file could be read."""
    facts = {
        "job_file": str(config.path),
        "name": config.name,
        "ok": not any(checked.problems for checked in checks),
        "notices": list(config.notices),
        "remarks": [asdict(remark) for remark in config.remarks],
        "problems": [],
        "refusal": "",
        "processes": [_process_facts(checked) for checked in checks],
    }
    redacted: dict[str, Any] = config.redacted(facts)
    return redacted


def unreadable_facts(path: str, error: UserError) -> dict[str, Any]:
    """The document's entry for a job file with mistakes."""
    return {
        "job_file": path,
        "name": None,
        "ok": False,
        "notices": [],
        "remarks": [],
        "problems": [asdict(problem) for problem in problems_of(error)],
        "refusal": str(error),
        "processes": [],
    }


def document(jobs: Sequence[dict[str, Any]], broken_extensions: Sequence[str]) -> dict[str, Any]:
    """The whole document."""
    is_fine = all(job["ok"] for job in jobs)
    return {"ok": is_fine, "broken_extensions": list(broken_extensions), "jobs": list(jobs)}


def _process_facts(checked: Checked) -> dict[str, Any]:
    return {
        "type": checked.start.config.type,
        "output_folder": str(checked.start.output_folder),
        "ok": not checked.problems,
        "lines": list(checked.lines),
        "notices": list(checked.notices),
        "remarks": _problems(checked, map(remark, checked.notices)),
        "problems": _problems(checked, checked.problems),
        "refusal": checked.refusal,
        **checked.facts(),
    }


def _problems(checked: Checked, problems: Iterable[Problem]) -> list[dict[str, Any]]:
    job, number = checked.start.job, checked.start.process_id
    return [asdict(located(problem, job.places, job.written, number)) for problem in problems]
