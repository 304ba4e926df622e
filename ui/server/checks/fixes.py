"""One-click fixes: what a problem suggests, as changes of the job text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from toolkit.config.reading.locations import value_at
from toolkit.config.reading.suggest import nearest
from ui.server.jobs.text import PROCESS
from ui.server.schemas import Fix, Problem

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_HOME = re.compile(r"It belongs in `([^`]+)`\.")
_NOT_IN_PROCESS = ("config.", "meta.", "job.")


def with_fix(problem: Problem, tree: Any) -> Problem:
    """The problem with the change that fixes it, where its text suggests one.

    Args:
        problem: found in a job.
        tree: the job as written.
    """
    if problem.fix is not None or not _KEY.fullmatch(problem.where) or problem.where.startswith(_NOT_IN_PROCESS):
        return problem
    try:
        value = value_at(tree, (*PROCESS, *(int(it) if it.isdecimal() else it for it in problem.where.split("."))))
    except LookupError:
        return problem
    section, _, key = problem.where.rpartition(".")
    fix = _new_key(problem, tree, section, key, value) if problem.what.startswith("unknown key") else None
    if fix is None and isinstance(value, str) and problem.suggestion and nearest(value, [problem.suggestion]):
        fix = Fix(label=f"Use {problem.suggestion}", edits={problem.where: problem.suggestion})
    return problem if fix is None else problem.model_copy(update={"fix": fix})


def way_to_fit(memory: Mapping[str, Any] | None) -> Fix | None:
    """The cheapest change of settings with which a job fits; None if it fits, or nothing would help."""
    if memory is None or memory["fits"] or not memory["ways"]:
        return None
    settings = memory["ways"][0]["settings"]
    words = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
    return Fix(label=f"Set {words}", edits=settings)


def _new_key(problem: Problem, tree: Any, section: str, key: str, value: Any) -> Fix | None:
    """Another name for the key, or its place in another section; None if there already is something."""
    if name := problem.suggestion:
        return (
            None
            if _has(tree, section, name)
            else Fix(label=f"Rename to {name}", edits={}, renames={problem.where: name})
        )
    home = _HOME.search(problem.what)
    if home is None or value is None or not _KEY.fullmatch(home[1]) or _has(tree, home[1], key):
        return None
    return Fix(label=f"Move to {home[1]}", edits={problem.where: None, f"{home[1]}.{key}": value})


def _has(tree: Any, section: str, key: str) -> bool:
    try:
        value_at(tree, (*PROCESS, *(int(it) if it.isdecimal() else it for it in section.split(".") if it), key))
    except LookupError:
        return False
    return True
