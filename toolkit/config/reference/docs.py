"""docs/config.md, written from the sections: every key with type, default, bounds and meaning."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

import annotated_types
from pydantic.fields import FieldInfo

from toolkit.choice import Choice, ChoiceOf, Spellings
from toolkit.config.compat.departures import DEPARTURES
from toolkit.config.compat.ignored_keys import UNSUPPORTED_VALUES, ignored_in
from toolkit.config.job import JobFile, job_sections
from toolkit.config.process import ProcessConfig
from toolkit.config.reading.installed import Processes, built_in_processes
from toolkit.config.remarks import conditions
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.section import SameAs, Section, section_of, sections

INTRODUCTION = """# Job files

Written by `python scripts/write_config_docs.py` from the classes in `toolkit/config/`: change those, not this.

A job file is YAML, JSON, or JSON with comments. Unknown keys are errors; `null` counts as not given.

- `[name]` stands for the name of the job: `config.name`, or what `--name` says.
- `${VAR}` in a value stands for an environment variable, or one from `.env` in the working directory. Its value is
  never printed or stored.
- `[trigger]` in captions and sample prompts stands for the trigger word.
- `python run.py JOB --set train.steps=20` sets a key below `config.process[0]`; numbers in the path count list entries.
- Defaults given here stand beneath what the model's card says, and both beneath the job file.

Editors complete and check job files with `config/job.schema.json`. For those that use yaml-language-server, begin the
file with `# yaml-language-server: $schema=../job.schema.json` (the path from the file to the schema).
"""
BOUNDS = {
    annotated_types.Ge: ("ge", "≥ {}"),
    annotated_types.Gt: ("gt", "> {}"),
    annotated_types.Le: ("le", "≤ {}"),
    annotated_types.Lt: ("lt", "< {}"),
}
PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path", Any: "anything"}


def config_docs(processes: Processes | None = None) -> str:
    """The text of docs/config.md.

    Args:
        processes: the kinds of process to describe; None: those that come with the trainer.
    """
    processes = processes or built_in_processes()
    places = _places(processes)
    jobs = list(processes.jobs())
    parts = [INTRODUCTION]
    parts += [_section(section, paths, jobs) for section, paths in places.items() if section.model_fields]
    parts += [_choices(places), _departures(), _left_alone(places), _unsupported(places, jobs)]
    return "\n".join(parts)


def _places(processes: Processes) -> dict[type[Section], list[str]]:
    """Every section with all paths at which it stands. Those of training have no more words than their path."""
    found: dict[type[Section], list[str]] = {}
    for path, section in job_sections().items():
        found.setdefault(section, []).append(f"`{_short(path)}`" if path else "The file")
    others: dict[type[ProcessConfig], list[str]] = {}
    for uid, kind in processes.by_uid.items():
        if kind.config is not TrainingProcessConfig:
            others.setdefault(kind.config, []).append(f"`{uid}`")
    for config, uids in others.items():
        for path, section in sections(config, "config.process[]").items():
            if section not in found:  # one that training has, too, is described there
                found[section] = [f"`{_short(path)}` of {', '.join(uids)}"]
    return found


def _section(section: type[Section], paths: list[str], jobs: list[str]) -> str:
    rows = [_row(section, key, field) for key, field in section.model_fields.items()]
    if section is JobFile:
        rows[0][1] = ", ".join(f"`{job}`" for job in jobs)
    return f"## {', '.join(paths)}\n\n" + _table(["key", "type", "default", "bounds", "meaning"], rows)


def _row(section: type[Section], key: str, field: FieldInfo) -> list[str]:
    others = [f"`{alias}`" for alias, name in section.aliases.items() if name == key]
    names = f"`{key}`" + (f" or {', '.join(others)}" if others else "")
    return [names, _type(field.annotation, field.metadata), _default(field), _bounds(field), _meaning(field)]


def _meaning(field: FieldInfo) -> str:
    return f"{field.description or ''} {conditions(field.metadata)}".strip()


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    inner, is_list = section_of(annotation)
    if inner is not None:
        return "list of sections" if is_list else "section"
    if table := _table_of(metadata):
        return ", ".join(f"`{value}`" for value in (*table, *ChoiceOf(table).spellings.others))
    if origin is Literal:
        spellings = [other for note in metadata if isinstance(note, Spellings) for other in note.others]
        return ", ".join(f"`{value}`" for value in (*arguments, *spellings))
    if origin is typing.Annotated:
        return _type(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        kind = _type(arguments[0])
        return f"{kind}, or a list of them" if arguments[-1] is ... else f"list of {len(arguments)}: {kind}"
    return "keys with values" if origin is dict else PLAIN[annotation]


def _table_of(metadata: Iterable[Any]) -> Mapping[str, Choice]:
    """The table whose rows a key may name; empty if there is none."""
    return next((note.table for note in metadata if isinstance(note, ChoiceOf)), {})


def _tables_in(annotation: Any, metadata: Iterable[Any]) -> Iterator[Mapping[str, Choice]]:
    if table := _table_of(metadata):
        yield table
    for argument in typing.get_args(annotation):
        yield from _tables_in(argument, getattr(argument, "__metadata__", ()))


def _choices(places: dict[type[Section], list[str]]) -> str:
    """Each table of choices once, with the keys that name its rows."""
    keys: dict[int, list[str]] = {}
    tables: dict[int, Mapping[str, Choice]] = {}
    for section, paths in places.items():
        for key, field in section.model_fields.items():
            for table in _tables_in(field.annotation, field.metadata):
                tables[id(table)] = table
                keys.setdefault(id(table), []).append(f"`{_short(paths[0])}.{key}`")
    parts = [f"### {', '.join(keys[number])}\n\n{_choice_table(table)}" for number, table in tables.items()]
    return "\n".join(["## What the names stand for\n", *parts])


def _choice_table(table: Mapping[str, Choice]) -> str:
    has_memory = any(row.memory for row in table.values())
    rows = [
        [", ".join(f"`{each}`" for each in (name, *row.spellings)), row.says, *([row.memory] if has_memory else [])]
        for name, row in table.items()
    ]
    return _table(["name", "meaning", *(["memory"] if has_memory else [])], rows)


def _default(field: FieldInfo) -> str:
    if isinstance(field.default_factory, SameAs):
        return f"as `{field.default_factory.key}`"
    if field.is_required():
        return "**required**"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or isinstance(default, Section) or default in ((), {}):
        return ""
    return f"`{default if isinstance(default, str | Path) else json.dumps(default)}`"


def _bounds(field: FieldInfo) -> str:
    notes = [*field.metadata]
    for argument in typing.get_args(field.annotation):
        for note in getattr(argument, "__metadata__", ()):  # of the entries of a list
            notes += note.metadata if isinstance(note, FieldInfo) else ()
    found = (
        BOUNDS[type(note)][1].format(getattr(note, BOUNDS[type(note)][0])) for note in notes if type(note) in BOUNDS
    )
    return ", ".join(dict.fromkeys(found))


def _departures() -> str:
    rows = [[f"`{row.key}`", row.theirs, row.ours, row.why] for row in DEPARTURES]
    introduction = "What the file says is honoured; these are different defaults, and repairs.\n\n"
    return "## Where we depart from ai-toolkit\n\n" + introduction + _table(["key", "ai-toolkit", "here", "why"], rows)


def _left_alone(places: dict[type[Section], list[str]]) -> str:
    rows = []
    for section, paths in places.items():
        for key, row in ignored_in(section).items():
            off = ", ".join(f"`{json.dumps(value)}`" for value in row.off[key])
            verdict = "ignored, with a notice" if row.verdict == "warn" else "refused"
            rows.append([_key_at(paths[0], key), verdict, f"{row.reason}", off])
    introduction = "Where such a key has the value in the last column (or null), nothing is said.\n\n"
    return "## Keys of ai-toolkit that are left alone\n\n" + introduction + _table(["key", "then", "why", "off"], rows)


def _unsupported(places: dict[type[Section], list[str]], jobs: list[str]) -> str:
    rows = []
    for (section, key), values in UNSUPPORTED_VALUES.items():
        left = sorted(values - set(jobs) if section is JobFile else values)
        rows.append([_key_at(places[section][0], key), ", ".join(f"`{value}`" for value in left)])
    return "## Values of ai-toolkit that are not supported yet\n\n" + _table(["key", "values"], rows)


def _key_at(place: str, key: str) -> str:
    path, of, uids = place.partition(" of ")
    return f"`{'' if place == 'The file' else path.strip('`') + '.'}{key}`{of}{uids}"


def _short(path: str) -> str:
    return path.removeprefix("config.process[].")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
