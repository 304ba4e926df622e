"""A form for job files: every key of a process, with what a page needs to draw it, made from the sections."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from toolkit.choice import Choice, ChoiceOf
from toolkit.config.job import RunConfig
from toolkit.config.paths import must_be_dataset, must_be_file, must_be_folder, must_be_hub_id_or_path
from toolkit.config.process import ProcessConfig
from toolkit.config.remarks import OnlyWith
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.section import Level, SameAs, Section, SectionBy, Setting, Shown, section_of

Kind = Literal["bool", "int", "float", "text", "choice", "path", "list", "mapping", "section"]
_BOUNDS = {
    annotated_types.Ge: ("minimum", "ge", False),
    annotated_types.Gt: ("minimum", "gt", True),
    annotated_types.Le: ("maximum", "le", False),
    annotated_types.Lt: ("maximum", "lt", True),
}


_WORDS = {
    "lr": "learning rate",
    "te": "text encoder",
    "dtype": "precision",
    "vae": "VAE",
    "lora": "LoRA",
    "eps": "epsilon",
    "control path": "reference folder",
    "ctrl img": "reference image",
}
"""Words of keys that are none: what they stand for."""


class FormChoice(BaseModel):
    """A value that a key may have."""

    value: str
    help: str


class FormField(BaseModel):
    """A key.

    Attributes:
        path: dotted, below the process; `[]` stands for the number of a list entry.
        label: name shown to the user.
        kind: what a value is; of a list, `item` says it of its entries.
        default: None where there is none, or where it follows from `default_key`.
        default_key: another key of the section, whose value is the default.
        unit: of a number, such as `px`.
        widget: how to ask for it where the kind does not say: `folder`, `file`, `model`, `prompts`, `slider`, `seed`.
        needs: the capability that a model must have for the key to do anything.
        when: the settings beside which it is read, as the end of a sentence that begins with "is read only".
        is_harmless: a resumed run may change it.
    """

    key: str
    path: str
    label: str
    kind: Kind
    item: Kind | None = None
    choices: list[FormChoice] = []
    is_optional: bool = False
    is_required: bool = False
    default: Any = None
    default_key: str | None = None
    help: str = ""
    level: Level = "usual"
    unit: str | None = None
    widget: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    is_minimum_excluded: bool = False
    is_maximum_excluded: bool = False
    needs: str | None = None
    when: str | None = None
    is_harmless: bool = False


class FormSection(BaseModel):
    """A mapping of a process, or one of a list of them.

    Attributes:
        path: dotted, below the process; empty for the process itself.
        given: of a section that another key decides, that key's path and the values with which it is this one.
    """

    path: str
    title: str
    help: str
    is_list: bool = False
    is_optional: bool = False
    given_key: str | None = None
    given_values: list[str] = []
    fields: list[FormField]


class FormSchema(BaseModel):
    """Every section of a process, in the order of a job file, and the name of the job."""

    name: FormField
    sections: list[FormSection]


def form_schema(kind: type[ProcessConfig] = TrainingProcessConfig) -> FormSchema:
    """The form of a kind of process."""
    name = _field("name", "config.name", RunConfig.model_fields["name"], is_harmless=False)
    return FormSchema(name=name, sections=list(_sections(kind, "", is_harmless=False)))


def words_of(key: str) -> str:
    """A key as words: `te_dtype` as "Text encoder precision"."""
    words = f" {key.replace('_', ' ')} "
    for short, long in _WORDS.items():
        words = words.replace(f" {short} ", f" {long} ")
    words = words.strip()
    return words[:1].upper() + words[1:]


def _sections(
    section: type[Section],
    path: str,
    *,
    is_harmless: bool,
    is_expert: bool = False,
    title: str | None = None,
    **flags: bool,
) -> Iterator[FormSection]:
    """A section, then those in it; in one for experts, all keys are.

    A list of prompts is a field like any other: a page asks for texts.
    """
    fields: list[FormField] = []
    below: list[FormSection] = []
    for key, field in section.model_fields.items():
        here = f"{path}.{key}".lstrip(".")
        harmless = is_harmless or not _setting(field).changes_training
        by = next((note for note in field.metadata if isinstance(note, SectionBy)), None)
        inner, is_list = section_of(field.annotation)
        if by is not None:
            below += _decided(by, here, path, is_harmless=harmless, title=_shown(field).label)
        elif inner is None or _shown(field).widget is not None:
            shown = _field(key, here, field, is_harmless=harmless)
            fields.append(shown.model_copy(update={"level": "expert"}) if is_expert else shown)
        else:
            inner_path = f"{here}[]" if is_list else here
            is_optional = not field.is_required()
            below += _sections(
                inner,
                inner_path,
                is_harmless=harmless,
                is_expert=is_expert or _shown(field).level == "expert",
                title=_shown(field).label,
                is_list=is_list,
                is_optional=is_optional,
            )
    yield FormSection(path=path, title=title or _title(path), help=_help(section), fields=fields, **flags)
    yield from below


def _decided(by: SectionBy, path: str, parent: str, *, is_harmless: bool, title: str | None) -> Iterator[FormSection]:
    values: dict[type[Section], list[str]] = {}
    for value, section in by.kinds.items():
        values.setdefault(section, []).append(value)
    for section, given in values.items():
        for found in _sections(section, path, is_harmless=is_harmless, title=title, is_optional=True):
            yield found.model_copy(update={"given_key": f"{parent}.{by.key}".lstrip("."), "given_values": given})


def _field(key: str, path: str, field: FieldInfo, *, is_harmless: bool) -> FormField:
    shown = _shown(field)
    kind, item, choices = ("list", "text", []) if shown.widget == "prompts" else _kind(field.annotation, field.metadata)
    same_as = field.default_factory.key if isinstance(field.default_factory, SameAs) else None
    when = next((note.when for note in field.metadata if isinstance(note, OnlyWith)), None)
    return FormField(
        key=key,
        path=path,
        label=shown.label or words_of(key),
        kind=kind,
        item=item,
        choices=choices,
        is_optional=type(None) in typing.get_args(field.annotation),
        is_required=field.is_required(),
        default=None if same_as or field.is_required() else _plain(field),
        default_key=same_as,
        help=field.description or "",
        level=shown.level,
        unit=shown.unit,
        widget=shown.widget or _widget(field.annotation, field.metadata),
        needs=shown.needs,
        when=when,
        is_harmless=is_harmless,
        **_bounds(field),
    )


def _plain(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def _kind(annotation: Any, metadata: Iterable[Any]) -> tuple[Kind, Kind | None, list[FormChoice]]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    table: Mapping[str, Choice] = next((note.table for note in metadata if isinstance(note, ChoiceOf)), {})
    if table:
        return "choice", None, [FormChoice(value=name, help=row.summary) for name, row in table.items()]
    if origin is Literal:
        return "choice", None, [FormChoice(value=str(value), help="") for value in arguments]
    if origin is typing.Annotated:
        return _kind(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return _union([argument for argument in arguments if argument is not type(None)])
    if origin is tuple:
        item, _, choices = _kind(arguments[0], ())
        return "list", item, choices
    if origin is dict or annotation is Any:
        return "mapping", None, []
    plain: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text", Path: "path"}
    return plain[annotation], None, []


def _union(alternatives: list[Any]) -> tuple[Kind, Kind | None, list[FormChoice]]:
    """One alternative as it is. Of several the first, with the fixed values of the others as its choices."""
    kind, item, choices = _kind(alternatives[0], ())
    for other in alternatives[1:]:
        choices = [*choices, *_kind(other, ())[2]]
    return kind, item, choices


def _widget(annotation: Any, metadata: Iterable[Any]) -> str | None:
    """How to ask for a path, by what must be there."""
    names = {getattr(note, "func", None) for note in _notes(annotation, metadata)}
    kinds = {must_be_folder: "folder", must_be_dataset: "folder", must_be_file: "file", must_be_hub_id_or_path: "model"}
    return next((widget for function, widget in kinds.items() if function in names), None)


def _notes(annotation: Any, metadata: Iterable[Any]) -> Iterator[Any]:
    yield from metadata
    for argument in typing.get_args(annotation):
        yield from _notes(argument, getattr(argument, "__metadata__", ()))


def _bounds(field: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for note in _notes(field.annotation, field.metadata):
        notes = note.metadata if isinstance(note, FieldInfo) else [note]
        for bound in notes:
            if type(bound) in _BOUNDS:
                name, attribute, is_excluded = _BOUNDS[type(bound)]
                found |= {name: getattr(bound, attribute), f"is_{name}_excluded": is_excluded}
    return found


def _shown(field: FieldInfo) -> Shown:
    return next((note for note in field.metadata if isinstance(note, Shown)), Shown())


def _setting(field: FieldInfo) -> Setting:
    return next((note for note in field.metadata if isinstance(note, Setting)), Setting())


def _title(path: str) -> str:
    return path.removesuffix("[]").replace("_", " ").replace(".", ": ").capitalize() if path else "Job"


def _help(section: type[Section]) -> str:
    """The first line of the docstring without the key that it begins with."""
    first = (section.__doc__ or "").strip().partition("\n")[0]
    return first.partition("`: ")[2] if first.startswith("`") and "`: " in first else first
