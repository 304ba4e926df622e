"""Reads a job file and checks it as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.config.compat.released import card_of
from toolkit.config.compat.shared_keys import share_with_processes
from toolkit.config.job import JobConfig, JobFile
from toolkit.config.paths import checked_path
from toolkit.config.reading.installed import find_known
from toolkit.config.reading.known import Known
from toolkit.config.reading.layout import Layout
from toolkit.config.reading.locations import Location, order_of, text_of
from toolkit.config.reading.overrides import apply_overrides
from toolkit.config.reading.parse import EXTENSIONS, is_json, parse_text, read_file, shortened
from toolkit.config.reading.placeholders import (
    expand_variables,
    fill_name,
    load_env_file,
    redact,
    secrets_of_environment,
    written_secrets,
)
from toolkit.config.reading.problems import MOST_EXPLAINED, explain, misplaced, unsupported_job
from toolkit.config.reading.suggest import suggestion_in
from toolkit.config.reading.text_positions import TextPosition, located, nearest_position, text_positions
from toolkit.config.reading.tidy import tidy
from toolkit.config.remarks import given_keys, remarks
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import JobError, Problem, Severity
from toolkit.extension import REPOSITORY

Finding = tuple[Location, str]


def load_job(path: str | Path, name: str | None = None, overrides: Sequence[str] = ()) -> JobConfig:
    """Read and check a job file. First sets the variables of a `.env` file in the working directory.

    Args:
        path: path of the job file, or its name in `config/`, with or without extension.
        name: replaces `[name]` in the file.
        overrides: assignments such as `train.steps=20`, relative to `config.process[0]`.

    Raises:
        JobError: the file has mistakes; the error lists them all.
    """
    load_env_file(Path.cwd())
    found = find_job_file(str(path))
    return load_job_text(read_file(found), found, name, overrides)


def load_job_text(text: str, source: Path, name: str | None = None, overrides: Sequence[str] = ()) -> JobConfig:
    """Check a job that need not be on disk. Paths in it count from the working directory, as in a file.

    Args:
        text: YAML or, if `source` ends in `.json` or `.jsonc`, JSON.
        source: the file that it will become, for messages and for `JobConfig.path`.
        name: stands for `[name]` in the text.
        overrides: see `load_job`.

    Raises:
        JobError: with everything that is wrong.
    """
    try:
        tree = parse_text(source, text)
    except JobError as error:
        problems = [located(problem, {}, {}, 0) for problem in error.problems]
        raise JobError(error.source, problems, error.notices) from error
    places = text_positions(text, is_json=is_json(source))
    return check_job(tree, path=source, known=find_known(), name=name, overrides=overrides, places=places)


def check_job(
    tree: dict[str, Any],
    *,
    path: Path,
    known: Known,
    name: str | None = None,
    overrides: Sequence[str] = (),
    places: Mapping[Location, TextPosition] | None = None,
) -> JobConfig:
    """Check a parsed job; `places` are those of its text.

    Raises:
        JobError: the job has mistakes; the error lists them all.
    """
    problems = apply_overrides(tree, overrides, Layout.of(tree, known))
    written, name_problems = fill_name(tree, name)
    problems += name_problems
    expanded, secrets, findings = expand_variables(written)
    secrets = {**secrets_of_environment(), **secrets}
    if what := unsupported_job(expanded, known):  # its process types are unknown too, so nothing else can be checked
        raise JobError(str(path), [Problem("job", what)])
    findings += written_secrets(written)
    share_with_processes(expanded)
    layout = Layout.of(expanded, known)
    tidy_findings, notices = tidy(expanded, layout, known.cards)
    findings += tidy_findings
    given = given_keys(expanded)
    for location, kind, entry in layout.entries(expanded):
        prepared = kind.prepare(entry, known.cards)
        findings += [((*location, *below), what) for below, what in prepared.problems]
        notices += [((*location, *below), what) for below, what in prepared.notices]
    findings += misplaced(expanded, layout, known)
    job, num_hidden = None, 0
    try:
        job = JobFile.model_validate(expanded, context=known)
    except ValidationError as error:
        findings += explain(error, written, layout)
        num_hidden = error.error_count() - MOST_EXPLAINED
    else:
        notices += _remarks(job, given_keys(expanded) - given, known)
    problems += _in_order(findings, written, layout, places or {})
    if num_hidden > 0:
        problems.append(Problem(str(path), f"{num_hidden} more mistakes are not shown. Is it a job file?"))
    found = _in_order(notices, written, layout, places or {}, severity="notice")
    shown_notices = tuple(replace(notice, what=redact(notice.what, secrets)) for notice in found)
    if problems or job is None:
        shown = [replace(problem, what=redact(problem.what, secrets)) for problem in problems]
        raise JobError(str(path), shown, notices=tuple(map(str, shown_notices)))
    return JobConfig(path, job.job, job.meta, job.config, shown_notices, written, secrets, places or {})


def _remarks(job: JobFile, from_the_card: frozenset[Location], known: Known) -> list[Finding]:
    """The notices about keys that depend on the job's other settings."""
    found: list[Finding] = []
    for index, process in enumerate(job.config.process):
        if isinstance(process, TrainingProcessConfig):
            location = ("config", "process", index)
            own = {where[3:] for where in from_the_card if where[:3] == location}
            card = known.cards.get(process.model.arch)
            card = None if card is None else card_of(process.model.model_dump(mode="json"), card)
            found += [((*location, *below), what) for below, what in remarks(process, card, from_the_card=own)]
    return found


def find_job_file(name: str) -> Path:
    """The path of the job file that the user means by `name`.

    Raises:
        JobError: there is no such file.
    """
    try:
        as_given = checked_path(Path(name))
    except ValueError as error:
        raise JobError(shortened(name), [Problem("job file", str(error))]) from error
    candidates = [as_given]
    for folder in dict.fromkeys([Path("config"), REPOSITORY / "config"]):
        candidates += [folder / name, *(folder / f"{name}{extension}" for extension in EXTENSIONS)]
    candidates += [as_given.with_name(f"{as_given.name}{extension}") for extension in EXTENSIONS if as_given.name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise JobError(name, [Problem(name, f"there is no such job file in {Path.cwd()} or in config/")])


def _in_order(
    findings: Iterable[Finding],
    written: dict[str, Any],
    layout: Layout,
    places: Mapping[Location, TextPosition],
    *,
    severity: Severity = "error",
) -> list[Problem]:
    """The findings in file order, one per location: any others at a location follow from the first."""
    first: dict[Location, str] = {}
    for location, what in findings:
        first.setdefault(layout.name_as_written(location, written), what)
    made = []
    for location in sorted(first, key=lambda at: order_of(written, at)):
        line, column = nearest_position(location, places) or (None, None)
        what = first[location]
        made.append(Problem(text_of(location), what, severity, suggestion_in(what), line, column))
    return made
