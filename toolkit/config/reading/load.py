"""A job file, read and checked in one go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.config.compat.released import advice, wrong_arch
from toolkit.config.job import JobConfig, JobFile
from toolkit.config.paths import usable
from toolkit.config.reading.known import Known, find_known
from toolkit.config.reading.locations import Location, name_as_written, order_of, text_of, value_at
from toolkit.config.reading.overrides import apply_overrides
from toolkit.config.reading.parse import EXTENSIONS, parse_file, shortened
from toolkit.config.reading.placeholders import (
    expand_variables,
    fill_name,
    load_env_file,
    redact,
    secrets_of_environment,
    written_secrets,
)
from toolkit.config.reading.problems import MOST_EXPLAINED, explain
from toolkit.config.reading.tidy import add_card_defaults, tidy
from toolkit.config.save import LORA_ONLY
from toolkit.errors import JobError, Problem
from toolkit.extension import REPOSITORY

Finding = tuple[Location, str]


def load_job(path: str | Path, name: str | None = None, overrides: Sequence[str] = ()) -> JobConfig:
    """Read and check a job file. Variables of a `.env` in the working directory are set first.

    Args:
        path: the file, or its name in `config/`, with or without extension.
        name: stands for `[name]` in the file.
        overrides: `train.steps=20` and the like, below `config.process[0]`.

    Raises:
        JobError: with everything that is wrong.
    """
    load_env_file(Path.cwd())
    found = find_job_file(str(path))
    return check_job(parse_file(found), path=found, known=find_known(), name=name, overrides=overrides)


def check_job(
    tree: dict[str, Any], *, path: Path, known: Known, name: str | None = None, overrides: Sequence[str] = ()
) -> JobConfig:
    """Check a parsed job.

    Raises:
        JobError: with everything that is wrong.
    """
    problems = apply_overrides(tree, overrides, JobFile)
    written, name_problems = fill_name(tree, name)
    problems += name_problems
    expanded, secrets, findings = expand_variables(written)
    secrets = {**secrets_of_environment(), **secrets}
    findings += written_secrets(written)
    tidy_findings, notices = tidy(expanded, known.cards)
    findings += tidy_findings
    for index, process in _processes(expanded):
        findings += _kind_of_job(process, ("config", "process", index))
        notices += _worth_knowing(process, ("config", "process", index))
        model = process.get("model")
        if isinstance(model, dict):
            findings += [(("config", "process", index, *at), what) for at, what in wrong_arch(model, known.cards)]
            notices += [(("config", "process", index, *at), what) for at, what in advice(model, known.cards)]
        _settle_lora_format(process)
        add_card_defaults(process, known.cards)
    job, num_hidden = None, 0
    try:
        job = JobFile.model_validate(expanded, context=known)
    except ValidationError as error:
        findings += explain(error, written)
        num_hidden = error.error_count() - MOST_EXPLAINED
    problems += _in_order(findings, written)
    if num_hidden > 0:
        problems.append(Problem(str(path), f"{num_hidden} more mistakes are not shown. Is it a job file?"))
    if problems or job is None:
        raise JobError(str(path), [Problem(problem.where, redact(problem.what, secrets)) for problem in problems])
    lines = tuple(redact(str(notice), secrets) for notice in _in_order(notices, written))
    return JobConfig(path, job.job, job.meta, job.config, lines, written, secrets)


def find_job_file(name: str) -> Path:
    """The file that a user names.

    Raises:
        JobError: there is none.
    """
    try:
        as_given = usable(Path(name))
    except ValueError as error:
        raise JobError(shortened(name), [Problem("job file", str(error))]) from error
    candidates = [as_given]
    for folder in dict.fromkeys([Path("config"), REPOSITORY / "config"]):
        candidates += [folder / name, *(folder / f"{name}{extension}" for extension in EXTENSIONS)]
    candidates += [as_given.with_name(f"{as_given.name}{extension}") for extension in EXTENSIONS if as_given.name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise JobError(name, [Problem(name, f"no such job file, neither here ({Path.cwd()}) nor in config/")])


def _processes(tree: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        processes = value_at(tree, ("config", "process"))
    except LookupError:
        return
    for index, process in enumerate(processes if isinstance(processes, list) else ()):
        if isinstance(process, dict):
            yield index, process


def _kind_of_job(process: dict[str, Any], location: Location) -> list[Finding]:
    train = process.get("train")
    full_finetune = train.get("full_finetune") if isinstance(train, dict) else None
    if "network" not in process and not full_finetune:
        what = (
            "missing. Write `network: {type: lora}` for a LoRA, or `train: {full_finetune: true}` to train all weights"
        )
        return [((*location, "network"), what)]
    model = process.get("model")
    if full_finetune and isinstance(model, dict) and model.get("quantize") is True:
        what = "trained weights cannot be quantized. Remove the key, or train a `network`"
        return [((*location, "model", "quantize"), what)]
    if "network" in process and full_finetune:
        return [((*location, "train", "full_finetune"), "there is a `network` too: keep one of them")]
    if full_finetune and (name := _save_format(process)) in LORA_ONLY:
        what = (
            f"`{name}` is a format of LoRA files. Write `safetensors`, one file with the released names, or `diffusers`"
        )
        return [((*location, "save", "save_format"), what)]
    return []


def _worth_knowing(process: dict[str, Any], location: Location) -> list[Finding]:
    notices: list[Finding] = []
    network, train, sample = (process.get(key) for key in ("network", "train", "sample"))
    if isinstance(network, dict):
        linear, alpha = network.get("linear"), network.get("linear_alpha")
        if isinstance(alpha, int | float) and isinstance(linear, int) and linear > 0 and alpha != linear:
            what = f"the scale is alpha / rank = {alpha / linear:g}; ai-toolkit would have used 1 with FLUX models"
            notices.append(((*location, "network", "linear_alpha"), what))
    ema = train.get("ema_config") if isinstance(train, dict) else None
    if isinstance(ema, dict) and "use_ema" not in ema:
        notices.append(((*location, "train", "ema_config"), "is off without `use_ema: true`"))
    if isinstance(network, dict) and (what := _lora_format(process)):
        notices.append(((*location, "save", "save_format"), what))
    if isinstance(sample, dict) and sample.get("samples") and sample.get("prompts"):
        notices.append(((*location, "sample", "prompts"), "ignored: `samples` is used"))
    return notices


def _lora_format(process: dict[str, Any]) -> str:
    """What `save_format` comes to in a LoRA job; empty where there is nothing to say."""
    name, save = _save_format(process), process.get("save")
    if isinstance(save, dict) and "lora_format" in save:
        return ""
    if name in LORA_ONLY:
        return f"taken as `lora_format: {name}`, the key for LoRA files"
    if name == "diffusers":
        return "means nothing for a LoRA, as in ai-toolkit: for diffusers' names write `lora_format: diffusers`"
    return ""


def _settle_lora_format(process: dict[str, Any]) -> None:
    """Write `lora_format` where `save_format` means it: what the job says comes before the card's default."""
    name = _save_format(process)
    if "network" in process and name in LORA_ONLY:
        process["save"].setdefault("lora_format", name)


def _save_format(process: dict[str, Any]) -> str:
    save = process.get("save")
    return str(save.get("save_format")).strip().lower() if isinstance(save, dict) else ""


def _in_order(findings: Iterable[Finding], written: dict[str, Any]) -> list[Problem]:
    """In the order of the file, and one for each place: later ones there follow from the first."""
    first: dict[Location, str] = {}
    for location, what in findings:
        first.setdefault(name_as_written(location, JobFile, written), what)
    return [
        Problem(text_of(location), first[location]) for location in sorted(first, key=lambda at: order_of(written, at))
    ]
