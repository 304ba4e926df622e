"""Turns pydantic's validation errors into messages for people who write job files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from toolkit.choice import ChoiceOf
from toolkit.config.compat.ignored_keys import ignored_in, unsupported_values
from toolkit.config.job import JobFile
from toolkit.config.reading.known import Known
from toolkit.config.reading.layout import Layout
from toolkit.config.reading.locations import Location, value_at
from toolkit.config.reading.parse import shortened
from toolkit.config.reading.placeholders import SECRET_NAME
from toolkit.config.reading.suggest import nearest, question
from toolkit.section import Section

LONGEST_VALUE = 60
MOST_EXPLAINED = 100  # a file with more mistakes is not a job file, and finding similar keys takes time
NEEDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "number_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (put a number in quotes to make it text)",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "path_type": "a path",
    "too_short": "at least {min_length} entry",
    "too_long": "at most {max_length} entries",
    "string_too_short": "some text",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def explain(error: ValidationError, written: Mapping[str, Any], layout: Layout) -> list[tuple[Location, str]]:
    """The first `MOST_EXPLAINED` mistakes, each with its location.

    Args:
        error: the error from validating the tidied job as a `JobFile`.
        written: the job as written in the file. Values are shown from here, so that no `${VAR}` is shown expanded.
        layout: the layout of the job.
    """
    found = []
    for details in error.errors(include_url=False)[:MOST_EXPLAINED]:
        if not _follows_from_another(details):
            location = layout.name_as_written(details["loc"], written)
            found.append((location, _what(details, _value(written, location), layout)))
    return found


def _follows_from_another(details: ErrorDetails) -> bool:
    """Whether an error follows from another: pydantic counts only valid entries, and skips defaults of bad values."""
    return details["type"] == "default_factory_not_called" or bool(details["type"] == "too_short" and details["input"])


def _what(details: ErrorDetails, value: str | None, layout: Layout) -> str:
    kind, key = details["type"], details["loc"][-1]
    section = layout.section_at(details["loc"][:-1])
    field = None if section is None else section.model_fields.get(str(key))
    found = "" if value is None else f" (found {value})"
    if kind == "extra_forbidden":
        homes = layout.sections_around(details["loc"])
        return f"unknown key{found}.{'' if section is None else _right_key(str(key), section, homes)}"
    if kind == "missing":
        return "needs one more entry" if isinstance(key, int) else f"missing. {_description(field)}".rstrip()
    if kind == "literal_error":
        return _wrong_choice(details, section, value or "")
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "string_pattern_mismatch" and field is not None:
        return f"not a valid value{found}. Choose {_description(field)}"
    if kind in NEEDS:
        return f"needs {NEEDS[kind].format(**details.get('ctx', {}))}{found}"
    return f"{details['msg']}{found}"


def _description(field: FieldInfo | None) -> str:
    return "" if field is None else field.description or ""


def _right_key(key: str, section: type[Section], sections: Mapping[str, type[Section]]) -> str:
    if name := nearest(key, (*section.model_fields, *section.aliases, *ignored_in(section))):
        return question(name)
    homes = [path for path, other in sections.items() if key in (*other.model_fields, *other.aliases)]
    # A section within this one first: `only_if_contains` is a key of `model`, too.
    own = next((path for path, other in sections.items() if other is section), "")
    homes.sort(key=lambda path: not path.startswith(f"{own}."))
    return f" It belongs in `{homes[0].removeprefix('config.process[].') or 'the file'}`." if homes else ""


def _wrong_choice(details: ErrorDetails, section: type[Section] | None, value: str) -> str:
    expected = details["ctx"]["expected"]
    choices = re.findall(r"'([^']*)'", expected) or [expected]
    unsupported = frozenset() if section is None else unsupported_values(section, str(details["loc"][-1]))
    field = None if section is None else section.model_fields.get(str(details["loc"][-1]))
    choice = next((note for note in field.metadata if isinstance(note, ChoiceOf)), None) if field else None
    if choice is None:
        return _choose(value, choices, unsupported)
    if reason := choice.refused.get(str(details["input"]).strip().lower()):
        return f"{value} is not supported: {reason}"
    if advice := choice.advice(str(details["input"])):
        return f"{value} is not known here. Write {advice}"
    return _choose(value, choices, unsupported)


def _choose(value: str, choices: Sequence[str], unsupported: Collection[str]) -> str:
    choose = f"Choose {', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else f"Write {choices[0]}"
    typed = value.strip('"')
    if typed.lower() in unsupported:
        return f"{value} is not supported yet. {choose}"
    return f"{value} is not known.{question(nearest(typed, choices))} {choose}"


def unsupported_job(tree: Mapping[str, Any], known: Known) -> str | None:
    """The error message if `job` is a kind that ai-toolkit has and no process here supports; None otherwise."""
    job = str(tree.get("job")).strip().lower()
    unsupported = unsupported_values(JobFile, "job") - set(known.jobs)
    return _choose(f'"{job}"', list(known.jobs), unsupported) if job in unsupported else None


def misplaced(tree: Mapping[str, Any], layout: Layout, known: Known) -> list[tuple[Location, str]]:
    """The processes that this kind of job may not contain, but another kind may."""
    job = str(tree.get("job", "extension")).strip().lower()
    found: list[tuple[Location, str]] = []
    for location, _, entry in layout.entries(tree):
        kind = entry.get("type")
        homes = [name for name, kinds in known.jobs.items() if kind in kinds]
        if job in known.jobs and homes and job not in homes:
            what = f"`{kind}` belongs in a file with `job: {homes[0]}`; this one has `job: {job}`"
            found.append(((*location, "type"), what))
    return found


def _value(tree: Any, location: Location) -> str | None:
    """The value at a location as users write it, or None if there is none or it may be a secret."""
    try:
        value = value_at(tree, location)
    except LookupError:
        return None
    if location and SECRET_NAME.search(str(location[-1])):
        return None
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "keys with values"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return shortened(text, LONGEST_VALUE)
