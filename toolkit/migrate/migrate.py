"""Rewrites one job file, explains every change, and refuses what cannot be carried over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config.model import normalise_arch
from toolkit.config.reading.installed import find_known
from toolkit.config.reading.load import check_job
from toolkit.config.reading.locations import text_of
from toolkit.config.reading.placeholders import written_secrets
from toolkit.errors import JobError, Problem
from toolkit.files import write_text
from toolkit.migrate.findings import Advice, Finding, Obstacle
from toolkit.migrate.job_text import JobText, plain
from toolkit.migrate.rules import Move, change_process, name_output


def migrate(source: Path, output: Path, *, to: ModelCard, cards: dict[str, ModelCard]) -> list[Finding]:
    """Rewrite a job for another model.

    Args:
        source: the job file.
        output: the file to write; comments, order and unchanged keys are kept from `source`.
        to: card of the model that the new job trains.
        cards: all model cards by arch.

    Returns:
        The changes and what the user should consider, in reading order.

    Raises:
        JobError: the file is damaged, contains a secret, names no known model, or asks for something that cannot be
            carried over; nothing was written.
    """
    text = JobText.read(source)
    secrets = written_secrets(plain(text.tree))
    if secrets:  # must be neither shown nor copied
        raise JobError(str(source), [Problem(text_of(location), what) for location, what in secrets])
    mistakes = _problems_of(plain(text.tree), source)
    findings: list[Finding] = []
    config = text.tree.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    if not isinstance(processes, list) or not processes:
        raise JobError(str(source), [Problem("config.process", "is not a list of processes")])
    problems: list[Problem] = []
    for index, process in enumerate(processes):
        found = change_process(process, Move(_card_of(process, index, cards, source), to))
        findings += found
        where = f"config.process[{index}]"
        problems += [Problem(f"{where}.{it.where}", it.what) for it in found if isinstance(it, Obstacle)]
    findings = [*name_output(config, to), *findings]
    left = _problems_of(plain(text.tree), output)
    problems += [problem for problem in left if problem not in mistakes]
    if problems:
        raise JobError(str(source), list({problem.where: problem for problem in reversed(problems)}.values())[::-1])
    head = [f"{source.name}, rewritten for {to.label} by `python -m toolkit.migrate {source.name} --to {to.arch}`."]
    write_text(output, text.write(head))
    return [*findings, *(Advice(f"To fix, as in the old file: {problem}") for problem in left)]


def _card_of(process: Any, index: int, cards: dict[str, ModelCard], source: Path) -> ModelCard:
    where = f"config.process[{index}].model"
    model = process.get("model") if isinstance(process, dict) else None
    if not isinstance(model, dict):
        raise JobError(str(source), [Problem(where, "missing: there is no model to change")])
    normalised = plain(model)
    conflict = normalise_arch(normalised, cards)
    if conflict:
        raise JobError(str(source), [Problem(f"{where}.arch", conflict)])
    arch = normalised.get("arch")
    if not isinstance(arch, str) or arch not in cards:
        what = f"is not a known model ({arch}). Known: {', '.join(sorted(cards))}"
        raise JobError(str(source), [Problem(f"{where}.arch", what)])
    return cards[arch]


def _problems_of(tree: Any, path: Path) -> list[Problem]:
    """What keeps a job from running, such as keys that this trainer refuses or folders that do not exist."""
    try:
        check_job(tree, path=path, known=find_known())
    except JobError as error:
        return list(error.problems)
    return []
