"""What a migration has to say of one place in a job file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """A value that was written, changed or removed.

    Attributes:
        where: path in the file, such as `model.arch`.
        was: the value that stood there; None if none did.
        becomes: the value that stands there now; None if it was removed.
        why: the reason, for someone who wrote the old value.
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
    """Something that cannot carry over, and what to do about it."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Advice:
    """Something that stays as it is, and that the user should think about."""

    text: str

    def __str__(self) -> str:
        return self.text


Finding = Change | Obstacle | Advice


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "..."
    return str(value).lower() if isinstance(value, bool) else str(value)
