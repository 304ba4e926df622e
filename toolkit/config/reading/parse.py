"""Job files as plain trees of dicts, lists and values: YAML, JSON, and JSON with comments."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import JobError, Problem

EXTENSIONS = (".yaml", ".yml", ".json", ".jsonc")
LARGEST_FILE_BYTES = 250_000  # parsing YAML of this size takes one to two seconds
DEEPEST = 50
MOST_VALUES = 100_000  # with every alias expanded
# An unclosed comment extends to the end of the file: searching for its end from every `/*` in it would take minutes.
JSON_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
JSON_STRING_OR_LAST_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"|,(?=\s*[\]}])')
TAG = "tag:yaml.org,2002:"
FLOAT_TAG, TIMESTAMP_TAG, MERGE_TAG = (f"{TAG}{kind}" for kind in ("float", "timestamp", "merge"))
PLAIN_TAGS = {f"{TAG}{kind}" for kind in ("bool", "float", "int", "map", "null", "seq", "str")}
HALF_CHARACTER = 'contains half of a surrogate pair (such as "\\ud800"): write the character itself'
BACKSLASHES = (
    "In double quotes a backslash starts a special character: write paths with / instead, or with two backslashes"
)
# YAML 1.1 reads 1e-4 as a string, because it has no decimal point
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|nan)$"
)


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number and 2024-01-01 as a string, records duplicate keys, and accepts plain values only."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[Problem] = []
        self._depth = 0

    def read(self) -> Any:
        """The value of the only document.

        Raises:
            yaml.YAMLError: the text is not one valid document, or its aliases expand to too many values.
        """
        node = self.get_single_node()
        if node is None:
            return None
        if _expanded_size(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases (*name) expand to more than {MOST_VALUES:,} values: use fewer of them")
        return self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As in the parent class, which would recurse until the stack overflows, but with a limit on depth."""
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"is nested more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As in the parent class, but a value that does not fit its tag is a YAML error with its location."""
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError) as error:  # 0b_, `!!bool maybe`, a number of 5000 digits
            what = f"cannot be read as {node.tag.removeprefix(TAG)}; put it in quotes to make it a string"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error
        if isinstance(value, str) and not is_whole_text(value):
            raise yaml.constructor.ConstructorError(None, None, HALF_CHARACTER, node.start_mark)
        return value

    def construct_section(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            mark, key = key_node.start_mark, key_node.value
            if key_node.tag == MERGE_TAG or not isinstance(key, str):
                continue
            if key in first_lines:
                what = f"`{key}` is given twice in this section, first in line {first_lines[key]}"
                self.duplicates.append(Problem(f"line {mark.line + 1}, column {mark.column + 1}", what))
            first_lines.setdefault(key, mark.line + 1)
        return self.construct_mapping(node, deep=True)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (FLOAT_TAG, TIMESTAMP_TAG)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(FLOAT_TAG, FLOAT, list("-+0123456789."))
_Loader.yaml_constructors = {
    tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag in {*PLAIN_TAGS, None}
}
_Loader.add_constructor(f"{TAG}map", _Loader.construct_section)


def parse_file(path: Path) -> dict[str, Any]:
    """The content of a job file. Raises as `read_file` and `parse_text` do."""
    return parse_text(path, read_file(path))


def read_file(path: Path) -> str:
    """The text of a job file.

    Raises:
        JobError: the file cannot be read.
    """
    if path.suffix.lower() not in EXTENSIONS:
        raise _error(path, "file name", f"must end in {', '.join(EXTENSIONS)}")
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            what = f"has {size / 1e6:.1f} MB, but a job file has a few kB: is it the right file?"
            raise _error(path, str(path), what)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(path, f"byte {error.start}", "is not UTF-8: save the file as UTF-8") from error
    except OSError as error:
        raise _error(path, str(path), error.strerror or str(error)) from error


def is_json(path: Path) -> bool:
    """Whether a job file of this name is JSON."""
    return path.suffix.lower().startswith(".json")


def parse_text(path: Path, text: str) -> dict[str, Any]:
    """The content of a job text.

    Args:
        path: the file that it is from, or stands for; its name says whether it is JSON.
        text: the text of the job file.

    Raises:
        JobError: it is too long, has a syntax error, a key twice, or no mapping at the top.
    """
    if len(text) > LARGEST_FILE_BYTES:
        raise _error(path, str(path), f"has {len(text) / 1e6:.1f} MB, and a job has a few kB: is it the right text?")
    tree = _parse_json(path, text) if is_json(path) else _parse_yaml(path, text)
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else "is not a mapping"
        raise _error(path, str(path), f"{what}: a job file has `job` and `config` at the top level")
    return tree


def parse_list(path: Path, text: str) -> list[Any]:
    """The content of a file that is a list; `path` says whether it is JSON.

    Raises:
        ValueError: it has a syntax error, a key twice, or something else than a list at the top.
    """
    try:
        tree = _parse_json(path, text) if is_json(path) else _parse_yaml(path, text)
    except JobError as error:
        raise ValueError(str(error)) from error
    if not isinstance(tree, list):
        raise ValueError(f'"{path}" is not a list')
    return tree


def compose(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, with their places.

    Raises:
        yaml.YAMLError: it is none.
    """
    return _Loader(text).get_single_node()


def as_yaml(text: str) -> str:
    """A JSON text with comments as YAML reads it; lines and columns stay."""
    text = JSON_STRING_OR_COMMENT.sub(_blank_unless_string, text)
    return JSON_STRING_OR_LAST_COMMA.sub(_blank_unless_string, text)


def parse_value(text: str) -> Any:
    """Parse a value as in a YAML job file.

    Raises:
        ValueError: it is not valid YAML.
    """
    try:
        return _plain(_Loader(text).read())
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or error
        raise ValueError(f'"{shortened(text)}" is not a YAML value: {what}') from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        loader = _Loader(text)
        tree = loader.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        context = f"{error.context}: " if error.context else ""
        raise _error(path, where, f"{context}{error.problem}{_on_backslashes(str(error.problem))}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise _error(path, str(path), str(error).partition("\n")[0]) from error
    if loader.duplicates:
        raise JobError(str(path), loader.duplicates)
    return _plain(tree)


def _parse_json(path: Path, text: str) -> Any:
    duplicates: list[Problem] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted(key for key, count in Counter(keys).items() if count > 1)
        duplicates.extend(Problem(f"`{key}`", "is given twice in the same section") for key in twice)
        return dict(pairs)

    text = as_yaml(text)
    try:
        tree = json.loads(text, object_pairs_hook=as_dict)
    except json.JSONDecodeError as error:
        what = f"{error.msg}{_on_backslashes(error.msg)}"
        raise _error(path, f"line {error.lineno}, column {error.colno}", what) from error
    except ValueError as error:  # a number with more digits than Python accepts
        raise _error(path, str(path), str(error).partition(":")[0]) from error
    except RecursionError as error:
        raise _error(path, str(path), "is nested too deeply") from error
    if duplicates:
        raise JobError(str(path), duplicates)
    if not is_whole_text(json.dumps(tree, ensure_ascii=False)):
        raise _error(path, str(path), HALF_CHARACTER)
    return tree


def _blank_unless_string(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)  # keeps line and column numbers


def _on_backslashes(complaint: str) -> str:
    """Advice if an error may come from a Windows path in double quotes; else empty."""
    return f". {BACKSLASHES}" if "escape" in complaint else ""


def shortened(text: str, length: int = 60) -> str:
    """The text, cut to at most `length` characters with `...` at the end if it is longer."""
    return text if len(text) <= length else f"{text[:length]}..."


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values below a node, aliases expanded; an alias that contains itself counts once (it fails later)."""
    if id(node) not in known:
        known[id(node)] = 1
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in parts)
    return known[id(node)]


def is_whole_text(text: str) -> bool:
    """False if the text contains half of a surrogate pair, which cannot be written to a file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """A copy of a tree in which no value is shared (as YAML anchors do) and every key is a string."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _error(path: Path, where: str, what: str) -> JobError:
    return JobError(str(path), [Problem(where, what)])
