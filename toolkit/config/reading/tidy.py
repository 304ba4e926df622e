"""What is settled before validation: other names of keys, nulls, keys we leave alone, defaults of the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.cards import ModelCard
from toolkit.config.compat.ignored_keys import ignored_in
from toolkit.config.compat.released import variant_of
from toolkit.config.job import JobFile
from toolkit.config.model import ModelConfig, settle_arch
from toolkit.config.reading.locations import Location, mappings
from toolkit.section import Section

Finding = tuple[Location, str]


def tidy(tree: dict[str, Any], cards: Mapping[str, ModelCard]) -> tuple[list[Finding], list[Finding]]:
    """Rename and remove keys in place, so that what is left is for the sections to judge.

    Returns:
        What is wrong, and what the user should know, each with its location.
    """
    problems: list[Finding] = []
    notices: list[Finding] = []
    for location, section, mapping in mappings(tree, JobFile):
        problems += [((*location, key), what) for key, what in _rename(mapping, section.aliases)]
        if section is ModelConfig and (conflict := settle_arch(mapping, cards)):
            problems.append(((*location, "arch"), conflict))
        _set_aside(mapping, section, location, problems, notices)
        for key in [key for key, value in mapping.items() if value is None and key in section.model_fields]:
            del mapping[key]  # null is "not given"
    return problems, notices


def add_card_defaults(process: dict[str, Any], cards: Mapping[str, ModelCard]) -> None:
    """Put what the model's card says beneath what the job says, in place."""
    model = process.get("model")
    card = cards.get(str(model.get("arch"))) if isinstance(model, dict) else None
    variant = variant_of(model, card) if card and isinstance(model, dict) else None
    for section, defaults in (*(variant.defaults if variant else {}).items(), *(card.defaults if card else {}).items()):
        if section == "datasets":
            datasets = process.get("datasets")
            for dataset in datasets if isinstance(datasets, list) else ():
                _add_below(dataset, defaults)
        elif section == "network":  # its absence means a full fine-tune
            _add_below(process.get("network"), defaults)
        else:
            _add_below(process.setdefault(section, {}), defaults)
    for above in (variant, card):
        if above and "sample" in above.defaults:
            _add_below(process.get("first_sample"), above.defaults["sample"])


def _rename(mapping: dict[str, Any], aliases: Mapping[str, str]) -> list[tuple[str, str]]:
    conflicts = []
    for alias, key in aliases.items():
        if alias not in mapping:
            continue
        value = mapping.pop(alias)
        if mapping.get(key) is None:
            mapping[key] = value
        elif value is not None and value != mapping[key]:
            conflicts.append((alias, f"means the same as `{key}` and differs from it: keep one of them"))
    return conflicts


def _set_aside(
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
            problems.append(
                ((*location, key), f"{row.reason}. Remove it, or the training would not be what it asks for")
            )


def _add_below(section: Any, defaults: Mapping[str, Any]) -> None:
    if not isinstance(section, dict):
        return
    for key, value in defaults.items():
        if isinstance(value, Mapping):
            _add_below(section.setdefault(key, {}), value)
        else:
            section.setdefault(key, value)
