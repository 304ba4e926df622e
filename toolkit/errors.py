"""Errors that are shown to users without a traceback, and the exception that ends an interrupted run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "notice"]


class UserError(Exception):
    """A mistake the user can fix: what was wrong, where, and what to do. Shown without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One mistake, or something worth knowing.

    Attributes:
        where: a file, or a key path in one.
        what: what is wrong and what to do about it.
        severity: with an `error` the job cannot work; a `warning` deserves attention.
        suggestion: the nearest valid spelling of what was written; None if nothing is similar.
        line, column: position in the job's text, counted from 1; None if unknown.
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
        notices: what else the user should know while fixing them, one line each; part of the message.
    """

    def __init__(self, source: str, problems: Sequence[Problem], notices: Sequence[str] = ()) -> None:
        assert problems, "a JobError without problems"
        self.source = source
        self.problems = tuple(problems)
        self.notices = tuple(notices)
        count = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        lines = [f"{source} has {count}", *map(_indented, self.problems)]
        if self.notices:
            lines += ["Also worth knowing", *map(_indented, self.notices)]
        super().__init__("\n".join(lines))


def _indented(entry: Problem | str) -> str:
    return "  " + str(entry).replace("\n", "\n    ")


def problems_of(error: UserError) -> tuple[Problem, ...]:
    """The mistakes that an error is about."""
    if isinstance(error, JobError):
        return error.problems
    return (problem_in(str(error), "error"),)


def problem_in(text: str, severity: Severity) -> Problem:
    """The problem that a message is about; most of our messages begin with the key or file."""
    where, colon, what = text.partition(": ")
    return Problem(where, what, severity) if colon and " " not in where else Problem("", text, severity)


class Mistakes:
    """What checks that do not depend on one another complain of, so that the user hears of all of it at once."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    def __bool__(self) -> bool:
        return bool(self.errors)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A check in this `with` block may raise UserError; execution continues after the block."""
        try:
            yield
        except UserError as error:
            self.errors.append(error)

    def error(self, source: str, notices: Sequence[str] = ()) -> UserError:
        """All of them as one. A single one stays as it is, unless there are notices beside it.

        Args:
            source: the job file, or what else has these mistakes.
            notices: what else the user should know, one line each.
        """
        found = [error for error in self.errors if isinstance(error, JobError)]
        notices = [*notices, *(notice for error in found for notice in error.notices)]
        if len(self.errors) == 1 and not notices:
            return self.errors[0]
        problems = dict.fromkeys(problem for error in self.errors for problem in problems_of(error))
        return JobError(source, list(problems), list(dict.fromkeys(notices)))


class Interrupted(Exception):
    """The run was asked to stop; everything worth keeping has been saved."""
