"""Rows that say which keys of ai-toolkit's job files are not used here, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.section import Section

EMPTY: tuple[Any, ...] = (False, 0, "", [], {})


@dataclass(frozen=True)
class Ignored:
    """Keys of one section that are not used, for one reason.

    Attributes:
        section: the section class that the keys belong to.
        verdict: `warn` if the training is the same without these keys, `refuse` if not.
        reason: why the keys are not used.
        off: for each key, the values that mean "off" and need no message. null is always one of them.
    """

    section: type[Section]
    verdict: Literal["warn", "refuse"]
    reason: str
    off: Mapping[str, tuple[Any, ...]]

    def is_off(self, key: str, value: Any) -> bool:
        """Whether the value of a key means "off"."""
        return value is None or value in self.off[key]


def warn(section: type[Section], reason: str, keys: str = "", **off: Any) -> Ignored:
    """Keys without which the training is the same. See `refuse`."""
    return Ignored(section, "warn", reason, _off(keys, off))


def refuse(section: type[Section], reason: str, keys: str = "", **off: Any) -> Ignored:
    """Keys without which the training is another one.

    Args:
        section: the section class that the keys belong to.
        reason: why they are not used.
        keys: keys that are off when empty, 0 or false, separated by blanks.
        off: keys with other values that mean "off".
    """
    return Ignored(section, "refuse", reason, _off(keys, off))


def _off(keys: str, off: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    given = {key: value if isinstance(value, tuple) else (value,) for key, value in off.items()}
    return dict.fromkeys(keys.split(), EMPTY) | given
