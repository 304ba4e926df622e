"""A job file as text that can be edited while keeping its comments and the order of its keys."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from toolkit.config.reading.parse import parse_file
from toolkit.errors import UserError

WIDTH = 120


class JobText:
    """The content of a job file.

    Attributes:
        tree: the nested mappings and lists, to be changed in place.
        is_json: whether the file is JSON, which has no comments.
    """

    def __init__(self, tree: Any, *, is_json: bool) -> None:
        self.tree = tree
        self.is_json = is_json

    @classmethod
    def read(cls, path: Path) -> JobText:
        """Read a YAML or JSON job file.

        Raises:
            JobError: the file cannot be read, or is not a mapping.
        """
        plain = parse_file(path)  # has better error messages than ruamel
        is_json = path.suffix.lower().startswith(".json")
        return cls(plain if is_json else _read_yaml(path), is_json=is_json)

    def write(self, head: list[str]) -> str:
        """The text of the file, with `head` as comment lines at the top (except in JSON, which has no comments)."""
        if self.is_json:
            return json.dumps(self.tree, indent=2, ensure_ascii=False) + "\n"
        buffer = io.StringIO()
        _yaml().dump(self.tree, buffer)
        return "".join(f"# {line}\n" for line in head) + buffer.getvalue()


def plain(tree: Any) -> Any:
    """A copy of the tree with plain Python dicts, lists and scalars."""
    if isinstance(tree, dict | CommentedMap):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | CommentedSeq):
        return [plain(value) for value in tree]
    for kind in (bool, int, float, str):  # ruamel's scalars remember how they were written
        if isinstance(tree, kind):
            return kind(tree)
    return tree


def _read_yaml(path: Path) -> Any:
    try:
        return _yaml().load(path.read_text(encoding="utf-8-sig"))
    except YAMLError as error:
        raise UserError(f"{path}: cannot be rewritten ({error}). Fix the file, then try again.") from error


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
