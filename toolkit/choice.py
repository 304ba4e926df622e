"""What a name in a job file stands for: one row of a table, from which the schema, errors and docs are made."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from toolkit.section import Section, SectionBy


@dataclass(frozen=True)
class Choice:
    """One row of a table; its key in the table is the name in job files. The target is imported only by `load`.

    Attributes:
        target: what the name stands for, as `module:name`.
        summary: one line of documentation.
        spellings: other spellings that are accepted in job files, in lower case.
        params: the section with the settings of this choice; None if it has none.
        elsewhere: names that other programs use for this choice, in lower case, each with how to write it here. They
            are not accepted, only used in error messages.
    """

    target: str
    summary: str
    spellings: tuple[str, ...] = ()
    params: type[Section] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def memory(self) -> str:
        """The memory that this choice costs, for the documentation; empty if none."""
        return ""

    def load(self) -> Any:
        """Import the target."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, eq=False)
class Spellings:
    """Annotation of a `Literal`: letter case does not matter, and each key of `others` is read as its value."""

    others: Mapping[str, str]

    def canonical(self, value: Any) -> Any:
        """The spelling that the rest of the program uses."""
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
    """Annotation of a string that names a row of `table`, in any of its spellings.

    Attributes:
        table: the rows by name.
        refused: names that other programs have and this one does not, in lower case, each with the reason.
        others: regular expression of values that are accepted as they are written though no row has them; None: none.
    """

    table: Mapping[str, Choice]
    refused: Mapping[str, str] = field(default_factory=dict)
    others: str | None = None

    @property
    def spellings(self) -> Spellings:
        """The alternative spellings of all rows."""
        return Spellings({other: name for name, row in self.table.items() for other in row.spellings})

    def advice(self, name: str) -> str | None:
        """How to write what other programs call `name`; None if no row stands for it."""
        found = (row.elsewhere.get(name.strip().lower()) for row in self.table.values())
        return next((spelling for spelling in found if spelling is not None), None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        rows = core_schema.no_info_before_validator_function(
            self.spellings.canonical, core_schema.literal_schema(list(self.table))
        )
        return core_schema.no_info_wrap_validator_function(self._validate, rows)

    def _validate(self, value: Any, rows: Callable[[Any], Any]) -> Any:
        is_other = isinstance(value, str) and self.others is not None and re.fullmatch(self.others, value.strip())
        return value.strip() if is_other else rows(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rows = self.spellings.__get_pydantic_json_schema__(schema, handler)
        return rows if self.others is None else {"anyOf": [rows, {"type": "string", "pattern": f"^{self.others}$"}]}


class NoParams(Section):
    """Settings of a choice that has none."""


def params_of(key: str, table: Mapping[str, Choice]) -> SectionBy:
    """Annotation of a section that holds the settings of the row of `table` that the key `key` names."""
    kinds = {name: row.params or NoParams for name, row in table.items()}
    return SectionBy(key, kinds, ChoiceOf(table).spellings.canonical)
