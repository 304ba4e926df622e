"""pydantic's complaints in the words of someone who writes job files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from toolkit.config.compat.ignored_keys import UNSUPPORTED_VALUES, ignored_in
from toolkit.config.job import JobFile
from toolkit.config.reading.locations import Location, name_as_written, section_at, value_at
from toolkit.config.reading.parse import shortened
from toolkit.config.reading.placeholders import SECRET_NAME
from toolkit.config.reading.suggest import nearest
from toolkit.section import Section, sections

LONGEST_VALUE = 60
MOST_EXPLAINED = 100  # a file with more mistakes is not a job, and finding the nearest keys takes time
NEEDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number that is not infinite",
    "number_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (quotes make a number a text)",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "path_type": "a path",
    "too_short": "at least {min_length} entry",
    "too_long": "at most {max_length} entries",
    "string_too_short": "some text",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def explain(error: ValidationError, written: Mapping[str, Any]) -> list[tuple[Location, str]]:
    """What is wrong where: the first `MOST_EXPLAINED` mistakes.

    Args:
        error: what `JobFile` says about the tidied job.
        written: the job as its file has it. Values are shown from here, so that no `${VAR}` is shown expanded.
    """
    found = []
    for details in error.errors(include_url=False)[:MOST_EXPLAINED]:
        if not _follows_from_another(details):
            location = name_as_written(details["loc"], JobFile, written)
            found.append((location, _what(details, written, _value(written, location))))
    return found


def _follows_from_another(details: ErrorDetails) -> bool:
    """pydantic counts only the good entries of a list, and makes no default from a bad value."""
    return details["type"] == "default_factory_not_called" or bool(details["type"] == "too_short" and details["input"])


def _what(details: ErrorDetails, written: Mapping[str, Any], value: str | None) -> str:
    kind, key = details["type"], details["loc"][-1]
    section = section_at(JobFile, details["loc"][:-1], written) or JobFile
    found = "" if value is None else f" (found {value})"
    if kind == "extra_forbidden":
        return f"unknown key{found}.{_right_key(str(key), section)}"
    if kind == "missing":
        return "needs one entry more" if isinstance(key, int) else f"missing. {section.model_fields[key].description}"
    if kind == "literal_error":
        return _wrong_choice(details, section, value or "")
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        return f"there is no such value{found}. Choose {section.model_fields[str(key)].description}"
    if kind in NEEDS:
        return f"needs {NEEDS[kind].format(**details.get('ctx', {}))}{found}"
    return f"{details['msg']}{found}"


def _right_key(key: str, section: type[Section]) -> str:
    if name := nearest(key, (*section.model_fields, *section.aliases, *ignored_in(section))):
        return f" Did you mean `{name}`?"
    homes = [path for path, other in sections(JobFile).items() if key in (*other.model_fields, *other.aliases)]
    return f" It belongs in `{homes[0].removeprefix('config.process[].') or 'the file'}`." if homes else ""


def _wrong_choice(details: ErrorDetails, section: type[Section], value: str) -> str:
    choices = re.findall(r"'([^']*)'", details["ctx"]["expected"])
    choose = f"Choose {', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else f"Write {choices[0]}"
    typed = value.strip('"')
    if typed.lower() in UNSUPPORTED_VALUES.get((section, str(details["loc"][-1])), ()):
        return f"{value} is not supported yet. {choose}"
    name = nearest(typed, choices)
    return f"there is no {value}.{f' Did you mean `{name}`?' if name else ''} {choose}"


def _value(tree: Any, location: Location) -> str | None:
    """The value at a location as users write it, or None if there is none."""
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
