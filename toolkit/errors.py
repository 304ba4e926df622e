"""The two ways to tell users that something they gave us cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "notice"]


class UserError(Exception):
    """A mistake the user can mend: what was wrong, where, and what to do. Shown without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One mistake in one place, or something worth knowing of it.

    Attributes:
        where: a path in a file or a file.
        what: says what to do about it.
        severity: with an `error` the job cannot work; a `warning` deserves a second look.
        suggestion: the nearest valid spelling to what was written; None if nothing comes near.
        line, column: in the job's text, from 1; None where that cannot be told.
    """

    where: str
    what: str
    severity: Severity = "error"
    suggestion: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class JobError(UserError):
    """Everything that is wrong with one job file, found before anything is loaded.

    Attributes:
        source: the job file.
        problems: the mistakes, in file order; never empty.
        notices: what else the user should know while mending them, one line each; part of the message.
    """

    def __init__(self, source: str, problems: Sequence[Problem], notices: Sequence[str] = ()) -> None:
        assert problems, "a JobError without problems"
        self.source = source
        self.problems = tuple(problems)
        self.notices = tuple(notices)
        count = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        lines = [f"{source} has {count}", *(f"  {problem}" for problem in self.problems)]
        if self.notices:
            lines += ["Worth knowing besides", *(f"  {notice}" for notice in self.notices)]
        super().__init__("\n".join(lines))


class Interrupted(Exception):
    """The run was asked to stop; everything worth keeping has been saved."""
