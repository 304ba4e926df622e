"""What a name in a job file stands for: one row of one table, from which everything else about it is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from toolkit.section import Section, SectionBy


@dataclass(frozen=True)
class Choice:
    """A row; its key in the table is the name. Reading a table imports nothing that a row stands for.

    Attributes:
        target: what the name stands for, as `module:name`.
        says: one line of documentation.
        spellings: other names of it that job files have, in lower case.
        params: the section of its own settings.
        elsewhere: names that other programs have for what this row can do, in lower case, and how it is written here.
            They are advised, never read.
    """

    target: str
    says: str
    spellings: tuple[str, ...] = ()
    params: type[Section] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def memory(self) -> str:
        """What it costs in memory, for the documentation; empty if nothing."""
        return ""

    def load(self) -> Any:
        """What the name stands for, imported now."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, eq=False)
class Spellings:
    """Annotation of a `Literal`: capitals do not matter, and each key of `others` is read as its value."""

    others: Mapping[str, str]

    def canonical(self, value: Any) -> Any:
        """The spelling that the rest of the program knows."""
        if not isinstance(value, str):
            return value
        value = value.strip().lower()
        return self.others.get(value, value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.canonical, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        values = json_schema.pop("enum", None) or [json_schema.pop("const")]
        return {**json_schema, "enum": [*values, *self.others]}


@dataclass(frozen=True, eq=False)
class ChoiceOf:
    """Annotation of a text that names a row of `table`, in any of its spellings.

    Attributes:
        table: the rows by name.
        besides: what to change with it, for whoever has to choose another row; from the other keys as written.
    """

    table: Mapping[str, Choice]
    besides: Callable[[Mapping[str, Any]], str] | None = None

    @property
    def spellings(self) -> Spellings:
        """The other names of all rows."""
        return Spellings({other: name for name, row in self.table.items() for other in row.spellings})

    def advice(self, name: str) -> str | None:
        """How to write here what other programs call `name`; None if no row can do it."""
        found = (row.elsewhere.get(name.strip().lower()) for row in self.table.values())
        return next((what for what in found if what is not None), None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self.spellings.canonical, core_schema.literal_schema(list(self.table))
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self.spellings.__get_pydantic_json_schema__(schema, handler)


def params_of(key: str, table: Mapping[str, Choice]) -> SectionBy:
    """Annotation of the settings of whatever row of `table` the key `key` names."""
    kinds = {name: row.params for name, row in table.items() if row.params is not None}
    return SectionBy(key, kinds, ChoiceOf(table).spellings.canonical)
