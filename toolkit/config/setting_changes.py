"""Which settings may change between two starts of a run, and how a later start differs from an earlier one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from toolkit.config.process import ProcessConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.section import Section, Setting, section_in

_UNSET = "(not there)"
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Difference:
    """One setting that is not what it was.

    Attributes:
        key: path below the process, such as `datasets[0].resolution`.
        before, now: its values, as JSON.
        is_harmless: a run may go on without being asked.
    """

    key: str
    before: str
    now: str
    is_harmless: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"


def is_harmless(key: str, process: Mapping[str, Any], kind: type[ProcessConfig] = TrainingProcessConfig) -> bool:
    """Whether a key changes no step's numbers: a `Setting` at its field, or at a section around it, says so.

    Args:
        key: path below the process, such as `datasets[0].resolution`.
        process: dump of the process's settings.
        kind: the section that was dumped.
    """
    notes = (note for _, field in _fields(key, process, kind) for note in field.metadata)
    return any(isinstance(note, Setting) and not note.changes_training for note in notes)


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], kind: type[ProcessConfig] = TrainingProcessConfig
) -> list[Difference]:
    """How two dumps of a process's settings (`mode="json"`) differ, in the order of the keys.

    A key that an older version of this program did not know counts as having had its default.

    Args:
        before: the earlier dump.
        now: the later dump.
        kind: the section that was dumped; it knows the defaults.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found = []
    for key in dict.fromkeys([*new, *old]):
        was = old.get(key, _default(key, now, kind) if key in new and not _is_in_new_section(key, old) else _UNSET)
        if was != new.get(key, _UNSET):
            found.append(Difference(key, _text(was), _text(new.get(key, _UNSET)), is_harmless(key, now, kind)))
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _is_in_new_section(key: str, old: Mapping[str, Any]) -> bool:
    """Whether the section of `key` was not there at all, or was null: then its defaults did not hold."""
    section = key.rpartition(".")[0]
    return bool(section) and not any(other.startswith(f"{section}.") for other in old)


def _default(key: str, process: Mapping[str, Any], kind: type[ProcessConfig]) -> Any:
    """The default of a key; `_UNSET` if it has none, computes it or is unknown."""
    fields = list(_fields(key, process, kind))
    name = _INDEX.sub("", key).rpartition(".")[2]
    if len(fields) <= key.count(".") or fields[-1][1].default is PydanticUndefined:
        return _UNSET
    section, field = fields[-1]
    return section.model_construct(**{name: field.default}).model_dump(mode="json", include={name})[name]


def _fields(
    key: str, process: Mapping[str, Any], kind: type[ProcessConfig]
) -> Iterator[tuple[type[Section], FieldInfo]]:
    """The fields on the way to a key, outer ones first, each with its section; up to the first that is unknown."""
    section: type[Section] | None = kind
    tree: Any = process
    for name in _INDEX.sub("", key).split("."):
        if section is None or name not in section.model_fields:
            return
        field = section.model_fields[name]
        yield section, field
        section = section_in(field, tree)
        tree = tree.get(name) if isinstance(tree, Mapping) else None


def _text(value: Any) -> str:
    return value if value == _UNSET else json.dumps(value, ensure_ascii=False)
