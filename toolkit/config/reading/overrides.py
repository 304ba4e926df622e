"""`--set train.steps=20`: values from the command line in place of the file's, below `config.process[0]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.config.reading.layout import Layout
from toolkit.config.reading.locations import Location, value_at
from toolkit.config.reading.parse import parse_value
from toolkit.errors import Problem
from toolkit.section import Section

PROCESS: Location = ("config", "process", 0)


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str], layout: Layout) -> list[Problem]:
    """Change `tree` in place. A key that does not exist is written all the same, for validation to find.

    Args:
        tree: the parsed job file.
        overrides: `KEY=VALUE` each; KEY is a dotted path in which numbers index lists, VALUE is YAML.
        layout: of the job; knows other names of keys.
    """
    try:
        process = value_at(tree, PROCESS)
    except LookupError:
        return []  # that there is no process is said elsewhere
    problems = []
    for override in overrides:
        try:
            _apply(process, override, layout)
        except ValueError as error:
            problems.append(Problem(f"--set {override.partition('=')[0]}", str(error)))
    return problems


def _apply(process: Any, override: str, layout: Layout) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise ValueError("write it as KEY=VALUE, such as train.steps=20")
    *parents, last = path.strip().split(".")
    place = process
    location = PROCESS
    for name in parents:
        place, part = _step(place, name)
        location = (*location, part)
    if isinstance(place, list):
        place[_index(place, last)] = parse_value(text)
    elif isinstance(place, dict):
        for other in _other_names(layout.section_at(location), last):
            place.pop(other, None)
        place[last] = parse_value(text)
    else:
        raise ValueError(f"there is no `{last}` in a value")


def _step(place: Any, part: str) -> tuple[Any, str | int]:
    if isinstance(place, list):
        index = _index(place, part)
        return place[index], index
    if not isinstance(place, dict):
        raise ValueError(f"there is no `{part}` in a value")
    if place.get(part) is None:
        place[part] = {}
    return place[part], part


def _index(place: list[Any], part: str) -> int:
    if not part.isdecimal():
        raise ValueError(f"`{part}` stands for an entry of a list: give its number, from 0")
    if int(part) >= len(place):
        raise ValueError(f"there is no entry {part}: the list has {len(place)}, counted from 0")
    return int(part)


def _other_names(section: type[Section] | None, key: str) -> list[str]:
    if section is None:
        return []
    name = section.aliases.get(key, key)
    return [other for other in (name, *section.aliases) if other != key and section.aliases.get(other, other) == name]
