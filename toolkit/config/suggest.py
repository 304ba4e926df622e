"""The nearest valid name to what a user typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(found: str, names: Iterable[str]) -> str | None:
    """The name that `found` is most likely a typing mistake of, or None if none comes near."""
    by_lower = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(found.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(found: str, names: Iterable[str]) -> str:
    """` Did you mean ...?`, with a leading space, or nothing."""
    name = nearest(found, names)
    return f" Did you mean `{name}`?" if name else ""
