"""`--set train.steps=20`: values from the command line that override the file's, relative to `config.process[0]`."""

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
    """Change `tree` in place. Unknown keys are written too, and left for validation to report.

    Args:
        tree: the parsed job file.
        overrides: strings `KEY=VALUE`; KEY is a dotted path in which numbers index lists, VALUE is YAML.
        layout: the layout of the job, which knows the aliases of keys.
    """
    try:
        process = value_at(tree, PROCESS)
    except LookupError:
        return []  # validation reports that there is no process
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
        raise ValueError("must be KEY=VALUE, such as train.steps=20")
    *parents, last = path.strip().split(".")
    parent = process
    location = PROCESS
    for name in parents:
        parent, part = _step(parent, name)
        location = (*location, part)
    if isinstance(parent, list):
        parent[_index(parent, last)] = parse_value(text)
    elif isinstance(parent, dict):
        for other in _other_names(layout.section_at(location), last):
            parent.pop(other, None)
        parent[last] = parse_value(text)
    else:
        raise ValueError(f"there is no `{last}` here: the key before it has a plain value")


def _step(parent: Any, part: str) -> tuple[Any, str | int]:
    if isinstance(parent, list):
        index = _index(parent, part)
        return parent[index], index
    if not isinstance(parent, dict):
        raise ValueError(f"there is no `{part}` here: the key before it has a plain value")
    if parent.get(part) is None:
        parent[part] = {}
    return parent[part], part


def _index(entries: list[Any], part: str) -> int:
    if not part.isdecimal():
        raise ValueError(f"`{part}` must be the number of a list entry, counted from 0")
    if int(part) >= len(entries):
        raise ValueError(f"there is no entry {part}: the list has {len(entries)}, counted from 0")
    return int(part)


def _other_names(section: type[Section] | None, key: str) -> list[str]:
    if section is None:
        return []
    name = section.aliases.get(key, key)
    return [other for other in (name, *section.aliases) if other != key and section.aliases.get(other, other) == name]
