"""The nearest valid name to what a user typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_TYPING_ERRORS = 2
_QUESTION = re.compile(r"Did you mean `([^`]+)`\?")


def nearest(found: str, names: Iterable[str]) -> str | None:
    """The name that `found` is most likely a typing mistake of, or None if none comes near.

    First by letters left out, added, changed or swapped, then by what the two have in common. Of names that are
    equally near, the first.
    """
    typed = found.lower()
    by_lower: dict[str, str] = {}
    for name in names:
        by_lower.setdefault(name.lower(), name)
    errors = {
        name: typing_errors(typed, name) for name in by_lower if abs(len(name) - len(typed)) <= MOST_TYPING_ERRORS
    }
    fewest = min(errors.values(), default=len(typed))
    if fewest <= MOST_TYPING_ERRORS and fewest < len(typed):
        candidates = [name for name, count in errors.items() if count == fewest]
        return by_lower[max(candidates, key=lambda name: difflib.SequenceMatcher(None, typed, name).ratio())]
    matches = difflib.get_close_matches(typed, by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(found: str, names: Iterable[str]) -> str:
    """` Did you mean ...?`, with a leading space, or nothing."""
    return question(nearest(found, names))


def question(name: str | None) -> str:
    """` Did you mean ...?` for the nearest name, with a leading space, or nothing where there is none."""
    return f" Did you mean `{name}`?" if name else ""


def suggestion_in(text: str) -> str | None:
    """The name that a text asks about in the words of `question`."""
    match = _QUESTION.search(text)
    return match[1] if match else None


def typing_errors(one: str, other: str) -> int:
    """Letters to leave out, add or change, and neighbours to swap, that make one word the other.

    Source: Damerau 1964, in the form that touches no letter twice (optimal string alignment).
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, target in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != target))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == target:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
