"""What a check has found out about one process of a job; one value for the run, the command line and web pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from jobs.process.start import Start
from toolkit.errors import JobError, Problem, Severity, UserError

_WARNING = "warning: "


@dataclass(frozen=True)
class Checked:
    """What is known of a process before anything is loaded or written.

    Attributes:
        start: what was checked, with the settings that the check has chosen.
        lines: the plan, as the user should read it.
        notices: of the lines, those that are worth a second look.
        problems: why it cannot work; what else is here is then incomplete.
        refusal: the problems as one text for the user; empty if there are none.
    """

    start: Start
    lines: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    refusal: str = ""

    def refused(self, error: UserError) -> Self:
        """The same with the reasons why the process cannot work."""
        return replace(self, problems=problems_of(error), refusal=str(error))

    def facts(self) -> dict[str, Any]:
        """What a kind of process adds to `--check --json`: plain JSON by name."""
        return {}


def problems_of(error: UserError) -> tuple[Problem, ...]:
    """The mistakes that an error is about. Most messages of ours say first which key or file that is."""
    if isinstance(error, JobError):
        return error.problems
    return (_split(str(error), "error"),)


def remark(notice: str) -> Problem:
    """A notice as data."""
    what = notice.removeprefix(_WARNING)
    return _split(what, "notice" if what == notice else "warning")


def _split(text: str, severity: Severity) -> Problem:
    where, colon, what = text.partition(": ")
    return Problem(where, what, severity) if colon and " " not in where else Problem("", text, severity)
