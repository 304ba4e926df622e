"""Runs side by side."""

from __future__ import annotations

from pydantic import Field

from ui.server.schemas.base import Answer


class ComparedRun(Answer):
    """One of the runs.

    Attributes:
        problem: why its settings cannot be compared; empty if they can.
        best: which round of its validation was the best, and why, in a sentence.
    """

    id: str
    name: str
    problem: str
    best: str | None


class ComparedSetting(Answer):
    """A setting that the runs do not have in common.

    Attributes:
        key: dotted key of the first process.
        values: of each run, as JSON; None where its settings cannot be compared.
        is_harmless: it changes no step's numbers.
    """

    key: str
    values: list[str | None]
    is_harmless: bool


class Comparison(Answer):
    """`GET /api/compare`: the settings that runs were started with, where they differ."""

    runs: list[ComparedRun]
    settings: list[ComparedSetting] = Field(description="In the order of the form; equal ones are left out.")
