"""The result of checking one process of a job, as one value for the run, the command line and web pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from jobs.process.start import Start
from toolkit.errors import JobError, Problem, UserError, problem_in, problems_of

_WARNING = "warning: "


@dataclass(frozen=True)
class Checked:
    """What is known about a process before anything is loaded or written.

    Attributes:
        start: the start that was checked, including settings that the check has chosen.
        lines: the plan, as lines for the user.
        notices: the lines that deserve attention.
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
        notices = dict.fromkeys([*self.notices, *(error.notices if isinstance(error, JobError) else ())])
        return replace(self, problems=problems_of(error), refusal=str(error), notices=tuple(notices))

    def facts(self) -> dict[str, Any]:
        """Plain JSON that this kind of process adds to its entry in `--check --json`."""
        return {}


def remark(notice: str) -> Problem:
    """A notice as data."""
    what = notice.removeprefix(_WARNING)
    return problem_in(what, "notice" if what == notice else "warning")
