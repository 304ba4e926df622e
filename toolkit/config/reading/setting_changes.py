"""How the settings of a resumed run differ from those before, and which changes are harmless."""

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

_UNSET = "(not set)"
_OF_A_MACHINE = ("device", "_dir", "folder", "path")
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Difference:
    """One setting that has changed.

    Attributes:
        key: path of the setting relative to the process, such as `datasets[0].resolution`.
        before, now: values of the setting before and after the change, as JSON.
        is_harmless: whether a run may resume without the user's consent to the change.
    """

    key: str
    before: str
    now: str
    is_harmless: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"


def is_harmless(key: str, process: Mapping[str, Any], kind: type[ProcessConfig] = TrainingProcessConfig) -> bool:
    """Whether changing a key leaves the numbers of every step the same.

    A `Setting` annotation on the key's field decides, or else that of the innermost section around it that has one.

    Args:
        key: path of the key relative to the process, such as `datasets[0].resolution`.
        process: the dumped settings of the process.
        kind: the settings class that was dumped.
    """
    notes = [note for _, field in _fields(key, process, kind) for note in field.metadata if isinstance(note, Setting)]
    return bool(notes) and not notes[-1].changes_training


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], kind: type[ProcessConfig] = TrainingProcessConfig
) -> list[Difference]:
    """The differences between two dumps of a process's settings (`mode="json"`), in the order of the keys.

    A key missing from the earlier dump, because an older version of this program did not know it, is taken to have had
    its default.

    Args:
        before: the earlier dump.
        now: the later dump.
        kind: the settings class that was dumped, which has the defaults.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found = []
    for key in dict.fromkeys([*new, *old]):
        was = old.get(key, _default(key, now, kind) if key in new and not _is_in_new_section(key, old) else _UNSET)
        if was != new.get(key, _UNSET):
            found.append(Difference(key, _text(was), _text(new.get(key, _UNSET)), is_harmless(key, now, kind)))
    return found


def chosen_settings(process: ProcessConfig) -> list[Difference]:
    """The settings of a process that differ from their defaults, which are `before`, in the order of the keys."""
    chosen, dumped = process.model_dump(mode="json", exclude_defaults=True), process.model_dump(mode="json")
    found = []
    for key, value in _leaves(chosen):
        default = _default(key, dumped, type(process))
        if value not in (default, {}):
            found.append(Difference(key, _text(default), _text(value), is_harmless(key, dumped, type(process))))
    return found


def settings_by_key(process: Mapping[str, Any]) -> dict[str, str]:
    """Every setting of a dump as JSON, by its key, such as `datasets[0].resolution`; without those of one machine.

    Left out are the device and where files and folders are.
    """
    leaves = dict(_leaves(process))
    return {key: _text(value) for key, value in leaves.items() if not key.endswith(_OF_A_MACHINE)}


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
    """Whether the section of `key` was missing or null before, so that its defaults did not apply."""
    section = key.rpartition(".")[0]
    return bool(section) and not any(other.startswith(f"{section}.") for other in old)


def _default(key: str, process: Mapping[str, Any], kind: type[ProcessConfig]) -> Any:
    """The default of a key; `_UNSET` if the key is unknown, has no default, or computes it."""
    fields = list(_fields(key, process, kind))
    name = _INDEX.sub("", key).rpartition(".")[2]
    if len(fields) <= key.count(".") or fields[-1][1].default is PydanticUndefined:
        return _UNSET
    section, field = fields[-1]
    return section.model_construct(**{name: field.default}).model_dump(mode="json", include={name})[name]


def _fields(
    key: str, process: Mapping[str, Any], kind: type[ProcessConfig]
) -> Iterator[tuple[type[Section], FieldInfo]]:
    """The fields along the path of a key, outermost first, each with its section class; stops at an unknown one."""
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
