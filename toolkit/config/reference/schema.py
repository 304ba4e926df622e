"""JSON Schema of job files, with which editors complete keys, explain them and mark mistakes."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from toolkit.config.compat.ignored import Ignored
from toolkit.config.compat.ignored_keys import ignored_in
from toolkit.config.job import JobFile, RunConfig, job_sections
from toolkit.config.model import ARCH_FLAGS, ModelConfig
from toolkit.config.process import ProcessConfig
from toolkit.config.reading.installed import Processes, built_in_processes
from toolkit.section import Section

JsonSchema = dict[str, Any]


def job_schema(processes: Processes | None = None) -> JsonSchema:
    """The schema, with every key and value that a job file may have.

    Args:
        processes: the kinds of process to describe. Default: those that come with the trainer. Entries of any other
            kind are not checked.
    """
    processes = processes or built_in_processes()
    uids: dict[type[ProcessConfig], list[str]] = {}
    for uid, kind in processes.by_uid.items():
        uids.setdefault(kind.config, []).append(uid)
    sections: dict[type[Section], None] = {ProcessConfig: None}
    for config in uids:
        sections |= dict.fromkeys(job_sections(config).values())
    references, shared = models_json_schema([(section, "validation") for section in sections])
    definitions = shared["$defs"]
    names = {section: references[section, "validation"]["$ref"].rpartition("/")[2] for section in sections}
    for section, name in names.items():
        _complete(definitions[name], section)
    own = [
        {"if": {"properties": {"type": {"enum": sorted(types)}}}, "then": references[config, "validation"]}
        for config, types in uids.items()
    ]
    entries = {"required": ["type"], "type": "object", "allOf": own}
    definitions[names[RunConfig]]["properties"]["process"]["items"] = entries
    definitions.pop(names[ProcessConfig])
    job = definitions.pop(names[JobFile])
    job["properties"]["job"] |= {"enum": list(processes.jobs())}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Job file", "$defs": definitions}
    return {**head, **{key: value for key, value in sorted(job.items()) if key != "title"}}


def _complete(schema: JsonSchema, section: type[Section]) -> None:
    """Add what is handled before validation: aliases of keys, and keys that are ignored or refused."""
    properties = schema.setdefault("properties", {})
    for value in properties.values():
        value.pop("title", None)
        if isinstance(value.get("default"), dict):  # a section, whose keys have their own defaults
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
    properties |= {key: _not_used(row) for key, row in ignored_in(section).items()}
    schema["required"] = [key for key, same in names.items() if len(same) == 1]
    alternatives = [{"anyOf": [{"required": [name]} for name in same]} for same in names.values() if len(same) > 1]
    if alternatives:
        schema["allOf"] = alternatives
    if not schema["required"]:
        del schema["required"]


def _not_used(row: Ignored) -> JsonSchema:
    verdict = "Ignored" if row.verdict == "warn" else "Must be off"
    return {"description": f"{verdict}: {row.reason}.", "deprecated": True}
