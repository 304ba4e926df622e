"""What the rounds of validation of a job say about its steps."""

from __future__ import annotations

from typing import Any, Literal

from toolkit.output.figures import whole
from toolkit.report.validation import best_round, round_words
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.words import clean


def rounds_of(job: Job) -> list[dict[str, Any]]:
    """Every round of validation, in the order in which they were made."""
    return events_of(job.folder / EVENTS_FILE, "validation")


def validated(job: Job) -> dict[int, tuple[str | None, Literal["best", "alike"] | None]]:
    """What each round found, and whether it was the best or does not differ significantly from that, by step."""
    rounds = {step: event for event in rounds_of(job) if (step := whole(event.get("step"))) is not None}
    best = next(reversed(rounds.values())).get("best") if rounds else None
    said = best if isinstance(best, dict) else {}
    alike = said.get("alike")
    marks: dict[int, Literal["best", "alike"]] = dict.fromkeys(alike if isinstance(alike, list) else [], "alike")
    if (best_step := whole(said.get("step"))) is not None:
        marks[best_step] = "best"
    return {step: (_clean(round_words(event)), marks.get(step)) for step, event in rounds.items()}


def best_of(job: Job) -> str | None:
    """Which round was the best, and why, in a sentence; None if that is not known."""
    rounds = rounds_of(job)
    best = best_round({0: rounds[-1]}) if rounds else None
    return _clean(best)


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)
