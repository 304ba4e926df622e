"""JSON Schema of job files, for editors: completion, explanations, and marks under mistakes."""

from __future__ import annotations

from typing import Any

from toolkit.config.compat.ignored_keys import Ignored, ignored_in
from toolkit.config.job import JobFile
from toolkit.config.model import ARCH_FLAGS, ModelConfig
from toolkit.section import Section, sections

JsonSchema = dict[str, Any]


def job_schema() -> JsonSchema:
    """The schema, with every key and value that a job file may have."""
    schema = JobFile.model_json_schema()
    for section in set(sections(JobFile).values()):
        _complete(schema["$defs"].get(section.__name__, schema), section)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Job file"}
    return {**head, **{key: value for key, value in schema.items() if key != "title"}}


def _complete(schema: JsonSchema, section: type[Section]) -> None:
    """Add what is settled before validation: other names of keys and keys that are left alone."""
    properties = schema.setdefault("properties", {})
    for value in properties.values():
        value.pop("title", None)
        if isinstance(value.get("default"), dict):  # a section; its own keys have their defaults
            del value["default"]
    names = {key: [key] for key in schema.get("required", ())}
    for alias, key in sorted(section.aliases.items()):
        properties[alias] = {**properties[key], "description": f"Same as `{key}`."}
        if key in names:
            names[key].append(alias)
    if section is ModelConfig:
        for flag in ARCH_FLAGS:
            properties[flag] = {"type": "boolean", "description": f"Same as `arch: {flag.removeprefix('is_')}`."}
        names["arch"] += ARCH_FLAGS
    properties |= {key: _left_alone(row) for key, row in ignored_in(section).items()}
    schema["required"] = [key for key, same in names.items() if len(same) == 1]
    alternatives = [{"anyOf": [{"required": [name]} for name in same]} for same in names.values() if len(same) > 1]
    if alternatives:
        schema["allOf"] = alternatives
    if not schema["required"]:
        del schema["required"]


def _left_alone(row: Ignored) -> JsonSchema:
    verdict = "Ignored" if row.verdict == "warn" else "Must be off"
    return {"description": f"{verdict}: {row.reason}.", "deprecated": True}
