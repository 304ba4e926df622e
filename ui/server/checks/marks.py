"""Where in a job text a key stands: line and column, from 1."""

from __future__ import annotations

import re

import yaml

from ui.server.schemas import Problem

_FIRST = ("config", "process", "0")


class Marks:
    """The places of all keys of a YAML or JSON text; none where it cannot be read."""

    def __init__(self, text: str) -> None:
        self._places: dict[tuple[str, ...], tuple[int, int]] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError, ValueError):
            return
        if node is not None:
            self._walk(node, (), 0)

    def placed(self, problem: Problem) -> Problem:
        """The problem with the place of its key, or of the nearest section around it that is there."""
        if problem.line is not None or not problem.where or not self._places:
            return problem
        parts = tuple(re.split(r"[.]", problem.where))
        for path in (parts, (*_FIRST, *parts)):
            for end in range(len(path), 0 if path is parts else len(_FIRST), -1):
                place = self._places.get(path[:end])
                if place is not None:
                    return problem.model_copy(update={"line": place[0], "column": place[1]})
        return problem

    def _walk(self, node: yaml.Node, path: tuple[str, ...], depth: int) -> None:
        if depth > 60 or len(self._places) > 50_000:
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(getattr(key, "value", "")))
                self._places.setdefault(here, (key.start_mark.line + 1, key.start_mark.column + 1))
                self._walk(value, here, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                here = (*path, str(number))
                self._places.setdefault(here, (value.start_mark.line + 1, value.start_mark.column + 1))
                self._walk(value, here, depth + 1)
