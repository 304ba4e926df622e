"""What the rounds of validation of a job say of its steps."""

from __future__ import annotations

from typing import Any

from toolkit.report.validation import best_round
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.words import clean


def rounds_of(job: Job) -> list[dict[str, Any]]:
    """Every round of validation, in the order in which they were made."""
    return events_of(job.folder / EVENTS_FILE, "validation")


def best_of(job: Job) -> str | None:
    """Which round was the best, and why, in a sentence; None if that is not known."""
    rounds = rounds_of(job)
    best = best_round({0: rounds[-1]}) if rounds else None
    return None if best is None else clean(best)
