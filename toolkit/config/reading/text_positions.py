"""Lines and columns in a job text, for messages about its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from toolkit.config.reading.locations import Location
from toolkit.config.reading.parse import as_yaml, compose
from toolkit.errors import Problem

TextPosition = tuple[int, int]
_PART = re.compile(r"(?:^|\.)(?P<key>[^.\[\]]+)|\[(?P<index>\d{1,9})\]")
_LINE = re.compile(r"line (?P<line>\d+), column (?P<column>\d+)")


def text_positions(text: str, *, is_json: bool = False) -> dict[Location, TextPosition]:
    """Line and column, from 1, of every key and list entry of a job text; nothing if it has a syntax error.

    What an alias (`*name`) stands for has the position of its anchor only.
    """
    try:
        node = compose(as_yaml(text) if is_json else text)
    except (yaml.YAMLError, RecursionError):
        return {}
    found: dict[Location, TextPosition] = {}
    _walk(node, (), found, set())
    return found


def located(
    problem: Problem, positions: Mapping[Location, TextPosition], written: Mapping[str, Any], process: int
) -> Problem:
    """The problem with its line and column, where the text has one for it.

    Args:
        problem: its `where` is a key of the job, a key below its process, or a file that the job names.
        positions: positions in the text, from `text_positions`.
        written: the parsed text.
        process: number of the process that the problem was found in.
    """
    if problem.line is not None:
        return problem
    if match := _LINE.fullmatch(problem.where):
        return replace(problem, line=int(match["line"]), column=int(match["column"]))
    position = _position(problem.where, positions, written, process)
    return problem if position is None else replace(problem, line=position[0], column=position[1])


def nearest_position(
    location: Location, positions: Mapping[Location, TextPosition], *, at_least: int = 1
) -> TextPosition | None:
    """The position of a location or, where the text lacks it, of the nearest section around it.

    Args:
        location: a location in the job.
        positions: positions in the job's text, from `text_positions`.
        at_least: parts of the location that must be there.
    """
    for length in range(len(location), at_least - 1, -1):
        if location[:length] in positions:
            return positions[location[:length]]
    return None


def _position(
    where: str, positions: Mapping[Location, TextPosition], written: Mapping[str, Any], process: int
) -> TextPosition | None:
    location = _location_of(where)
    if location is not None:
        inside: Location = ("config", "process", process)
        for prefix in ((), inside):
            position = nearest_position((*prefix, *location), positions, at_least=len(prefix) + 1)
            if position is not None:
                return position
    path = Path(where)
    named = [(len(text), at) for at, text in _texts(written) if text and (Path(text) in (path, *path.parents))]
    return nearest_position(max(named)[1], positions) if where and named else None


def _location_of(text: str) -> Location | None:
    """The location that a text from `text_of` stands for; None if it is not such a text."""
    parts: list[str | int] = []
    end = 0
    while end < len(text):
        match = _PART.match(text, end)
        if match is None:
            return None
        parts.append(match["key"] if match["index"] is None else int(match["index"]))
        end = match.end()
    return tuple(parts) or None


def _texts(value: Any, location: Location = ()) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*location, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*location, number))


def _walk(node: yaml.Node | None, location: Location, found: dict[Location, TextPosition], seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*location, str(key.value))
            found.setdefault(here, (key.start_mark.line + 1, key.start_mark.column + 1))
            _walk(value, here, found, seen)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found[*location, number] = (value.start_mark.line + 1, value.start_mark.column + 1)
            _walk(value, (*location, number), found, seen)
