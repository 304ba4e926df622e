"""Errors that are shown to users without a traceback, and the exception that ends an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class UserError(Exception):
    """A mistake the user can fix: what was wrong, where, and what to do. Shown without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One mistake: `where` is a file, or a key path in one; `what` says what is wrong and what to do about it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class JobError(UserError):
    """Everything that is wrong with one job file, found before anything is loaded.

    Attributes:
        source: the job file.
        problems: the mistakes, in file order; never empty.
        notices: what else the user should know while fixing them, one line each; part of the message.
    """

    def __init__(self, source: str, problems: Sequence[Problem], notices: Sequence[str] = ()) -> None:
        assert problems, "a JobError without problems"
        self.source = source
        self.problems = tuple(problems)
        self.notices = tuple(notices)
        count = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        lines = [f"{source} has {count}", *(f"  {problem}" for problem in self.problems)]
        if self.notices:
            lines += ["Also worth knowing", *(f"  {notice}" for notice in self.notices)]
        super().__init__("\n".join(lines))


class Interrupted(Exception):
    """The run was asked to stop; everything worth keeping has been saved."""
