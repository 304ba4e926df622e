"""The result of checking one process of a job, as one value for the run, the command line and web pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from jobs.process.start import Start
from toolkit.errors import JobError, Problem, UserError


@dataclass(frozen=True)
class Checked:
    """What is known about a process before anything is loaded or written.

    Attributes:
        start: the start that was checked, including settings that the check has chosen.
        lines: the plan, as lines for the user.
        notices: those of the lines that deserve attention.
        problems: why the process cannot work; if there are any, the other fields are incomplete.
        refusal: the problems as one text for the user; empty if there are none.
    """

    start: Start
    lines: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    refusal: str = ""

    def refused(self, error: UserError) -> Self:
        """A copy with the reasons why the process cannot work."""
        return replace(self, problems=problems_of(error), refusal=str(error))

    def facts(self) -> dict[str, Any]:
        """Plain JSON that this kind of process adds to its entry in `--check --json`."""
        return {}


def problems_of(error: UserError) -> tuple[Problem, ...]:
    """The problems that an error reports. Most of our messages begin with the key or file that is at fault."""
    if isinstance(error, JobError):
        return error.problems
    where, colon, what = str(error).partition(": ")
    return (Problem(where, what) if colon and " " not in where else Problem("", str(error)),)
