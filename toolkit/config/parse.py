"""Job files as plain trees of dicts, lists and values: YAML, JSON, and JSON with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import JobError, Problem

EXTENSIONS = (".yaml", ".yml", ".json", ".jsonc")
JSON_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
JSON_STRING_OR_LAST_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"|,(?=\s*[\]}])')
FLOAT_TAG, TIMESTAMP_TAG, MERGE_TAG = (f"tag:yaml.org,2002:{kind}" for kind in ("float", "timestamp", "merge"))
# YAML 1.1 reads 1e-4 as text, because it has no point
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|nan)$"
)


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number and 2024-01-01 as text, and remembers keys that stand twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[Problem] = []

    def construct_section(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            mark, key = key_node.start_mark, key_node.value
            if key_node.tag == MERGE_TAG or not isinstance(key, str):
                continue
            if key in first_lines:
                what = f"`{key}` stands twice in this section, first in line {first_lines[key]}"
                self.duplicates.append(Problem(f"line {mark.line + 1}, column {mark.column + 1}", what))
            first_lines.setdefault(key, mark.line + 1)
        return self.construct_mapping(node, deep=True)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (FLOAT_TAG, TIMESTAMP_TAG)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(FLOAT_TAG, FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_section)


def parse_file(path: Path) -> dict[str, Any]:
    """The content of a job file.

    Raises:
        JobError: it cannot be read, has a syntax error, a key twice, or no mapping at the top.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise _error(path, "file name", f"must end in {', '.join(EXTENSIONS)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(path, f"byte {error.start}", "is not UTF-8: save the file as UTF-8") from error
    except OSError as error:
        raise _error(path, str(path), error.strerror or str(error)) from error
    tree = _parse_json(path, text) if path.suffix.lower().startswith(".json") else _parse_yaml(path, text)
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else "is no mapping"
        raise _error(path, str(path), f"{what}: a job file has `job` and `config` at the top")
    return tree


def parse_value(text: str) -> Any:
    """A value as a YAML job file would have it.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return _plain(_Loader(text).get_single_data())
    except yaml.YAMLError as error:
        raise ValueError(f'"{text}" is no YAML value: {getattr(error, "problem", None) or error}') from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        loader = _Loader(text)
        tree = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        context = f"{error.context}: " if error.context else ""
        raise _error(path, where, f"{context}{error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise _error(path, str(path), str(error).partition("\n")[0]) from error
    except RecursionError as error:
        raise _error(path, str(path), "is nested too deeply") from error
    if loader.duplicates:
        raise JobError(str(path), loader.duplicates)
    return _plain(tree)


def _parse_json(path: Path, text: str) -> Any:
    duplicates: list[Problem] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        duplicates.extend(Problem(f"`{key}`", "stands twice in the same section") for key in twice)
        return dict(pairs)

    text = JSON_STRING_OR_COMMENT.sub(_blank_unless_string, text)
    text = JSON_STRING_OR_LAST_COMMA.sub(_blank_unless_string, text)
    try:
        tree = json.loads(text, object_pairs_hook=as_dict)
    except json.JSONDecodeError as error:
        raise _error(path, f"line {error.lineno}, column {error.colno}", error.msg) from error
    except RecursionError as error:
        raise _error(path, str(path), "is nested too deeply") from error
    if duplicates:
        raise JobError(str(path), duplicates)
    return tree


def _blank_unless_string(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)  # keeps lines and columns


def _plain(value: Any) -> Any:
    """A tree in which nothing is shared (YAML anchors share) and every key is text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _error(path: Path, where: str, what: str) -> JobError:
    return JobError(str(path), [Problem(where, what)])
