"""What every section of a job file is: known keys only, typed values, frozen once read."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_T = TypeVar("_T")


class Section(BaseModel):
    """One mapping of a job file. Unknown keys are errors, values cannot change after loading.

    Attributes:
        aliases: other names that job files use for a key; `toolkit.config.reading.tidy` renames them before validation.
        off_aliases: of an alias that ai-toolkit has as a key of its own, the value of both that asks for nothing: the
            other then counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    aliases: ClassVar[Mapping[str, str]] = {}
    off_aliases: ClassVar[Mapping[str, Any]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads `lr: true` as 1.0
        if isinstance(value, bool) and info.field_name is not None:
            kinds = plain_types(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and bool not in kinds:
                raise PydanticCustomError("number_type", "needs a number")
        return value


@dataclass(frozen=True)
class SameAs:
    """Default factory: the value of another key of the section."""

    key: str

    def __call__(self, section: dict[str, Any]) -> Any:
        return section[self.key]


@dataclass(frozen=True)
class Setting:
    """Annotation of a key: what is said of it beside its type, default, bounds and description.

    Attributes:
        changes_training: another value changes the numbers of a step: a run goes on with it only if it is told to.
            Keys without this annotation do. On a section it is said of all keys within.
    """

    changes_training: bool = True


Level = Literal["basic", "usual", "expert"]


@dataclass(frozen=True)
class Shown:
    """Annotation of a key: how a form shows it.

    Attributes:
        level: `basic` keys are asked of everybody, `usual` ones stand in the full form, `expert` ones are folded away.
        unit: of a number, such as `px`.
        widget: how to ask for a value where its type does not say, such as `prompts`.
        needs: the capability that a model must have for the key to do anything.
    """

    level: Level = "usual"
    unit: str | None = None
    widget: str | None = None
    needs: str | None = None


Harmless = Annotated[_T, Setting(changes_training=False)]
"""A key, or a section, that may change between two starts of a run: it changes the numbers of no step."""


@dataclass(frozen=True, eq=False)
class SectionBy:
    """Annotation of a section that another key of the same mapping decides, such as the settings of an optimizer.

    Attributes:
        key: the other key; its field stands before this one.
        kinds: the section for each value of that key. The first is taken where the value is missing or wrong.
        canonical: gives the spelling of a value that `kinds` has.
    """

    key: str
    kinds: Mapping[str, type[Section]]
    canonical: Callable[[Any], Any]

    def given(self, neighbours: Any) -> type[Section]:
        """The section in a mapping that has these other keys."""
        value = self.canonical(neighbours.get(self.key)) if isinstance(neighbours, Mapping) else None
        kind = value if isinstance(value, str) and value in self.kinds else next(iter(self.kinds))
        return self.kinds[kind]

    @property
    def default(self) -> Section:
        """The field's default, to be validated: it then becomes the default of the section that is given.

        A default factory would do, too, but pydantic cannot leave out what is made by one (`exclude_defaults`).
        """
        return next(iter(self.kinds.values()))()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = [handler.generate_schema(section) for section in dict.fromkeys(self.kinds.values())]
        schema = inner[0] if len(inner) == 1 else core_schema.union_schema(list(inner))
        return core_schema.with_info_wrap_validator_function(self._validate, schema)

    def _validate(self, value: Any, handler: Any, info: ValidationInfo) -> Section:
        section = self.given(info.data)
        return section() if value == self.default else section.model_validate(value, context=info.context)


def sections(root: type[Section], path: str = "") -> dict[str, type[Section]]:
    """Every section below `root` by its path, such as `config.process[].train`; `root` itself is at `path`.

    Where another key decides which section it is, all but the first have its value behind them in brackets.
    """
    found = {path: root}
    for key, field in root.model_fields.items():
        for inner, suffix in _sections_in(field):
            found |= sections(inner, f"{path}.{key}".lstrip(".") + suffix)
    return found


def section_in(field: FieldInfo, neighbours: Any) -> type[Section] | None:
    """The section that a field holds, if any, in a mapping that has these other keys."""
    by = next((note for note in field.metadata if isinstance(note, SectionBy)), None)
    return section_of(field.annotation)[0] if by is None else by.given(neighbours)


def has_key(root: type[Section], path: str) -> bool:
    """Whether there is a key below a section, such as `train.lr`."""
    section, _, key = path.rpartition(".")
    return key in sections(root).get(section, Section).model_fields


def section_of(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The section that an annotation holds, if any, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, False
    is_list = typing.get_origin(annotation) is tuple
    for argument in typing.get_args(annotation):
        inner, inner_is_list = section_of(argument)
        if inner is not None:
            return inner, is_list or inner_is_list
    return None, False


def plain_types(annotation: Any) -> set[Any]:
    """The types that a plain value may have: `float | None` gives {float, NoneType}. Empty for containers."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return set().union(*(plain_types(argument) for argument in typing.get_args(annotation)))
    if origin is typing.Annotated:
        return plain_types(typing.get_args(annotation)[0])
    return {annotation} if isinstance(annotation, type) else set()


def _sections_in(field: FieldInfo) -> Iterator[tuple[type[Section], str]]:
    by = next((note for note in field.metadata if isinstance(note, SectionBy)), None)
    if by is None:
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            yield inner, "[]" if is_list else ""
        return
    seen: set[type[Section]] = set()
    for kind, section in by.kinds.items():
        if section not in seen:
            yield section, f" ({kind})" if seen else ""
        seen.add(section)
