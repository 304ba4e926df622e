"""The base class of all sections of a job file: known keys only, typed values, frozen once read."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_T = TypeVar("_T")

# Reading the metadata of every installed library, in search of plugins for pydantic, takes as long as a whole check.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


class Section(BaseModel):
    """One mapping of a job file. Unknown keys are errors, values cannot change after loading.

    Attributes:
        aliases: alternative names of keys, each with the key it stands for; `toolkit.config.reading.tidy` renames them
            before validation.
        off_aliases: for aliases that are separate keys in ai-toolkit, the value that means "off"; if one of the two
            keys is off, the other one counts.
    """

    # A section is built as part of the one that it is in: alone it would be built a second time.
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, defer_build=True
    )

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


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NameParts = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
"""Parts of names, by which a job chooses layers or weights; a single one need not be a list."""


@dataclass(frozen=True)
class SameAs:
    """Default factory: the value of another key of the section."""

    key: str

    def __call__(self, section: dict[str, Any]) -> Any:
        return section[self.key]


@dataclass(frozen=True)
class Setting:
    """Annotation of a key, or of a section and all keys in it.

    Attributes:
        changes_training: whether another value would change the numbers of a step, so that a run resumes with it only
            if the user accepts the change. True for keys without this annotation.
    """

    changes_training: bool = True


Level = Literal["basic", "usual", "expert"]


@dataclass(frozen=True)
class Shown:
    """Annotation of a key, or of a section: how a form shows it.

    Attributes:
        label: name shown to the user. Default: the words of the key.
        level: `basic` keys are in every form, `usual` ones in the full form, and `expert` ones are folded away there.
        unit: unit of a number, such as `px`.
        widget: how to ask for a value where its type does not say, such as `prompts`.
        needs: the capability that a model must have for the key to do anything.
    """

    label: str | None = None
    level: Level = "usual"
    unit: str | None = None
    widget: str | None = None
    needs: str | None = None


Harmless = Annotated[_T, Setting(changes_training=False)]
"""A key, or a section, that may change when a run is resumed: it does not change the numbers of any step."""


@dataclass(frozen=True, eq=False)
class SectionBy:
    """Annotation of a section whose class depends on another key of the same mapping, as an optimizer's settings do.

    Attributes:
        key: the other key; its field must be defined before this one.
        kinds: the section class for each value of that key. The first is used if the value is missing or wrong.
        canonical: converts any accepted spelling of a value to the one in `kinds`.
    """

    key: str
    kinds: Mapping[str, type[Section]]
    canonical: Callable[[Any], Any]

    def given(self, neighbours: Any) -> type[Section]:
        """The section class in a mapping that has these other keys."""
        value = self.canonical(neighbours.get(self.key)) if isinstance(neighbours, Mapping) else None
        kind = value if isinstance(value, str) and value in self.kinds else next(iter(self.kinds))
        return self.kinds[kind]

    @property
    def default(self) -> Section:
        """The field's default. Validation turns it into the defaults of the section class that applies.

        A default factory would do too, but pydantic's `exclude_defaults` cannot leave out what a factory made.
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
    """Every section class below `root` by its path, such as `config.process[].train`; `root` itself is at `path`.

    If another key decides the class, the path of each class but the first ends in that key's value, in parentheses.
    """
    found = {path: root}
    for key, field in root.model_fields.items():
        for inner, suffix in _sections_in(field):
            found |= sections(inner, f"{path}.{key}".lstrip(".") + suffix)
    return found


def section_in(field: FieldInfo, neighbours: Any) -> type[Section] | None:
    """The section class of a field, if it holds a section, in a mapping that has these other keys."""
    by = next((note for note in field.metadata if isinstance(note, SectionBy)), None)
    return section_of(field.annotation)[0] if by is None else by.given(neighbours)


def has_key(root: type[Section], path: str) -> bool:
    """Whether a dotted key, such as `train.lr`, exists below a section."""
    section, _, key = path.rpartition(".")
    return key in sections(root).get(section, Section).model_fields


def section_of(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The section class in an annotation, or None, and whether the annotation is a list of sections."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, False
    is_list = typing.get_origin(annotation) is tuple
    for argument in typing.get_args(annotation):
        inner, inner_is_list = section_of(argument)
        if inner is not None:
            return inner, is_list or inner_is_list
    return None, False


def plain_types(annotation: Any) -> set[Any]:
    """The scalar types that an annotation allows: `float | None` gives {float, NoneType}. Empty for containers."""
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
