"""Normalises a job before validation: resolves aliases, drops nulls, and removes keys that are ignored or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config.compat.ignored_keys import ignored_in
from toolkit.config.model import ModelConfig, normalise_arch
from toolkit.config.reading.layout import Layout
from toolkit.config.reading.locations import Location
from toolkit.section import Section

Finding = tuple[Location, str]


def tidy(tree: dict[str, Any], layout: Layout, cards: Mapping[str, ModelCard]) -> tuple[list[Finding], list[Finding]]:
    """Rename and remove keys in place, so that only keys of the sections are left for validation.

    Returns:
        Problems and notices, each with its location.
    """
    problems: list[Finding] = []
    notices: list[Finding] = []
    for location, section, mapping in layout.mappings(tree):
        problems += [((*location, key), what) for key, what in _rename(mapping, section)]
        if section is ModelConfig and (conflict := normalise_arch(mapping, cards)):
            problems.append(((*location, "arch"), conflict))
        _remove_unused(mapping, section, location, problems, notices)
        for key in [key for key, value in mapping.items() if value is None and key in section.model_fields]:
            del mapping[key]  # null means "not given"
    return problems, notices


def _rename(mapping: dict[str, Any], section: type[Section]) -> list[tuple[str, str]]:
    conflicts = []
    for alias, key in section.aliases.items():
        if alias not in mapping:
            continue
        value, off = mapping.pop(alias), section.off_aliases.get(alias)
        if mapping.get(key) in (None, off):
            mapping[key] = value
        elif value not in (None, off, mapping[key]):
            conflicts.append((alias, f"means the same as `{key}` but has another value: keep one of them"))
    return conflicts


def _remove_unused(
    mapping: dict[str, Any], section: type[Section], location: Location, problems: list[Finding], notices: list[Finding]
) -> None:
    for key, row in ignored_in(section).items():
        if key not in mapping:
            continue
        value = mapping.pop(key)
        if row.is_off(key, value):
            continue
        if row.verdict == "warn":
            notices.append(((*location, key), f"ignored: {row.reason}"))
        else:
            problems.append(((*location, key), f"{row.reason}. Remove it: the training would not do what it asks for"))
