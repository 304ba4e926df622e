"""The jobs that the options of `run.py` name."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from jobs.draw_command import drawing_job
from jobs.job import Job
from toolkit.config import JobConfig, load_job
from toolkit.errors import JobError, UserError
from toolkit.section import has_key
from toolkit.train.resume import ResumeChoice


def sources(options: argparse.Namespace) -> list[str]:
    """The job files; without any, the run or the model to draw with."""
    return list(options.jobs) or [options.sample or options.model]


def load_jobs(options: argparse.Namespace) -> list[Job]:
    """Load all job files.

    Raises:
        UserError: with the mistakes in all of them.
    """
    jobs: list[Job] = []
    mistakes: list[JobError] = []
    for path in sources(options):
        try:
            job = load_job_of(path, options)
        except JobError as error:
            mistakes.append(error)
            continue
        for notice in job.config.notices:
            print(notice)
        jobs.append(job)
    if mistakes:
        raise UserError("\n".join(map(str, mistakes)))
    return jobs


def load_job_of(path: str, options: argparse.Namespace) -> Job:
    """Load one of the sources.

    Raises:
        UserError: it has mistakes.
    """
    if not options.jobs:
        return _job(drawing_job(options), shlex.join(["python", "run.py", *sys.argv[1:]]), options)
    return _job(_load_one(path, options), _command(path, options), options)


def _job(config: JobConfig, command: str, options: argparse.Namespace) -> Job:
    return Job(config, resume=_resume_choice(options), command=command, vram_gb=options.vram)


def _resume_choice(options: argparse.Namespace) -> ResumeChoice:
    source = options.resume if options.resume in ("latest", "none") else Path(options.resume)
    return ResumeChoice(source, options.from_step, options.accept_config_change)


def _command(path: str, options: argparse.Namespace) -> str:
    """The command that resumes one of the jobs; without --resume and --from-step, which would go back again."""
    name = ["--name", options.name] if options.name else []
    overrides = [part for override in options.overrides for part in ("--set", override)]
    accept = ["--accept-config-change"] if options.accept_config_change else []
    return shlex.join(["python", "run.py", path, *name, *overrides, *accept])


def _load_one(path: str, options: argparse.Namespace) -> JobConfig:
    config = load_job(path, options.name, options.overrides)
    first = config.config.process[0]
    more = []
    if options.no_cache and has_key(type(first), "model.quantize_cache"):
        more.append("model.quantize_cache=false")
    seed = os.environ.get("SEED")  # read after load_job, which reads .env
    if seed is not None and has_key(type(first), "training_seed") and "training_seed" not in first.model_fields_set:
        more.append(f"training_seed={seed}")
    return load_job(path, options.name, [*options.overrides, *more]) if more else config
