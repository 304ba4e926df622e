"""What every section of a job file is: known keys only, typed values, frozen once read."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """One mapping of a job file. Unknown keys are errors, values cannot change after loading.

    Attributes:
        aliases: other names that job files use for a key; `toolkit.config.reading.tidy` renames them before validation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    aliases: ClassVar[Mapping[str, str]] = {}

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


def sections(root: type[Section], path: str = "") -> dict[str, type[Section]]:
    """Every section below `root` by its path, such as `config.process[].train`; `root` itself is at `path`."""
    found = {path: root}
    for key, field in root.model_fields.items():
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            found |= sections(inner, f"{path}.{key}".lstrip(".") + ("[]" if is_list else ""))
    return found


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
