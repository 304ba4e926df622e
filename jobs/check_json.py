"""`run.py --check --json`: the result of a check as one JSON document for programs, with secrets redacted.

    {
      "ok": true,                       false if any job has problems; the exit code is then 2
      "broken_extensions": [text],      extensions that were skipped
      "jobs": [{
        "job_file": path,
        "name": text,                   null if the file cannot be read
        "ok": true,
        "notices": [text],              of the job file
        "problems": [problem],          of the job file
        "refusal": text,                the problems as the command line prints them; empty if there are none
        "processes": [{
          "type": text,                 the kind of process
          "output_folder": path,
          "ok": true,
          "lines": [text],              the plan as the command line prints it
          "notices": [text],            those of the lines that deserve attention
          "problems": [problem],
          "refusal": text,
          ...                           what the kind of process adds
        }]
      }]
    }

A problem is `{"where": text, "what": text}`: where it is (a key of the job file, a file, or empty), and what is wrong
and what to do about it. After a problem, the later facts of the process are empty, and later processes of its job are
not checked.

A training process adds:

    "datasets": [{"source", "resolution", "num_images", "num_captions", "num_skipped", "num_copies", "num_references",
                  "is_reg", "buckets": [{"width", "height", "examples"}]}]
    "needs": {"captions", "texts", "pictures", "views": numbers,
              "resident": [{"component", "reason"}], "passes": {"with_gradient", "without_gradient"}}
    "memory": null if nothing is predicted, else {
        "device", "fits", "peak_gpu_bytes", "peak_ram_bytes",
        "phases": [{"name", "stage", "gpu_bytes", "ram_bytes", "parts": {name: bytes}}],
        "machine": {"name", "gpu_bytes", "free_gpu_bytes", "ram_bytes", "free_ram_bytes"},   null: unknown
        "ways": [{"settings": {key: value}, "peak_gpu_bytes", "peak_ram_bytes"}]}            what would make it fit
    "disk": {"checkpoints_bytes", "latents_bytes", "captions_bytes"}    upper estimates
    "resume": {"step", "checkpoint": path or null, "superseded_steps": [numbers]}
    "settings": {key: value}            keys of the `model` section that `memory: auto` has chosen
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jobs.process.checked import Checked, problems_of
from toolkit.config import JobConfig
from toolkit.errors import Problem, UserError


def job_facts(config: JobConfig, checks: Sequence[Checked]) -> dict[str, Any]:
    """The document's entry for a job whose file could be read."""
    facts = {
        "job_file": str(config.path),
        "name": config.name,
        "ok": not any(checked.problems for checked in checks),
        "notices": list(config.notices),
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
        "problems": _problems(problems_of(error)),
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
        "problems": _problems(checked.problems),
        "refusal": checked.refusal,
        **checked.facts(),
    }


def _problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [asdict(problem) for problem in problems]
