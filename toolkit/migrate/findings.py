"""What a migration reports about a key of a job file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """A value that was added, changed or removed.

    Attributes:
        where: path of the key, such as `model.arch`.
        was: the old value; None if there was none.
        becomes: the new value; None if the key was removed.
        why: the reason for the change, for someone who wrote the old value.
    """

    where: str
    was: Any
    becomes: Any
    why: str

    def __str__(self) -> str:
        if self.becomes is None:
            return f"{self.where}: removed (was {_short(self.was)}). {self.why}"
        if self.was is None:
            return f"{self.where}: {_short(self.becomes)}. {self.why}"
        return f"{self.where}: {_short(self.was)} -> {_short(self.becomes)}. {self.why}"


@dataclass(frozen=True)
class Obstacle:
    """Something that cannot be carried over, and what to do about it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Advice:
    """Something that stays as it is but that the user should consider."""

    text: str

    def __str__(self) -> str:
        return self.text


Finding = Change | Obstacle | Advice


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "..."
    return str(value).lower() if isinstance(value, bool) else str(value)
