"""Notices about a key that depend on the job's other settings, as annotations of the key's field.

A key that has no effect with the job's other settings must not pass silently: `OnlyWith` states what the key depends
on. The notice and the sentence in docs/config.md are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from toolkit.cards import ModelCard
from toolkit.config.reading.locations import Location
from toolkit.section import Section


@dataclass(frozen=True)
class KeyContext:
    """A key of a process, and the settings around it.

    Attributes:
        location: location of the key, relative to the process.
        sections: the nested sections that contain the key, from the process inwards.
        card: the card of the job's model; None if it has none.
    """

    location: Location
    sections: tuple[Any, ...]
    card: ModelCard | None

    @property
    def process(self) -> Any:
        """The settings of the process."""
        return self.sections[0]

    @property
    def section(self) -> Any:
        """The section that the key is in."""
        return self.sections[-1]

    @property
    def parent(self) -> Any:
        """The section that contains the key's section."""
        return self.sections[-2]

    @property
    def value(self) -> Any:
        """The value of the key."""
        return getattr(self.section, str(self.location[-1]))

    @property
    def trains_network(self) -> bool:
        """Whether the process trains a network."""
        return self.process.keeps_checkpoints and self.process.network is not None

    def is_within(self, key: str) -> bool:
        """Whether the key is in the process's section `key`."""
        return self.location[0] == key

    def can(self, capability: str) -> bool:
        """Whether the model has a capability according to its card; True if there is no card."""
        return self.card is None or capability in self.card.capabilities


class Remark(Protocol):
    """An annotation that may give a notice about a key."""

    def remark(self, context: KeyContext) -> str | None:
        """The notice, or None."""
        ...


@dataclass(frozen=True, eq=False)
class OnlyWith:
    """Annotation of a key that is used only with certain other settings.

    Attributes:
        when: those settings, as the end of a sentence that begins "it is used only".
        is_used: whether the job has those settings.
        is_switched: whether those settings are a switch beside the key, which job files often turn off and leave the
            key at its default; such a default is then no surprise.
    """

    when: str
    is_used: Callable[[KeyContext], bool]
    is_switched: bool = False

    def remark(self, context: KeyContext) -> str | None:
        """See Remark.remark."""
        return None if self.is_used(context) else f"has no effect here: it is used only {self.when}"


@dataclass(frozen=True, eq=False)
class Notice:
    """Annotation of a key some of whose values deserve a notice.

    Attributes:
        notice: returns the notice, or None.
    """

    notice: Callable[[KeyContext], str | None]

    def remark(self, context: KeyContext) -> str | None:
        """See Remark.remark."""
        return self.notice(context)


def remarks(
    process: Section, card: ModelCard | None, *, from_the_card: Collection[Location]
) -> list[tuple[Location, str]]:
    """The notices about all keys that a job file sets.

    A key that is set to its default may still be counted on, so that `OnlyWith` holds for it too. One that is off by
    default and set to that asks for nothing.

    Args:
        process: the validated settings of a process.
        card: the card of the job's model; None if it has none.
        from_the_card: locations of keys that were set from the card's defaults, not by the job file.

    Returns:
        Notices, each with its location relative to the process.
    """
    return list(_remarks((process,), (), card, from_the_card))


def _remarks(
    sections: tuple[Section, ...], location: Location, card: ModelCard | None, from_the_card: Collection[Location]
) -> Iterator[tuple[Location, str]]:
    section = sections[-1]
    for key, field in type(section).model_fields.items():
        here, value = (*location, key), getattr(section, key)
        if key not in section.model_fields_set or here in from_the_card:
            continue
        notes = [note for note in field.metadata if isinstance(note, OnlyWith | Notice)]
        if value == field.get_default(call_default_factory=True, validated_data=dict(section)):
            notes = [note for note in notes if value and isinstance(note, OnlyWith) and not note.is_switched]
        found = [note.remark(KeyContext(here, sections, card)) for note in notes]
        first = next((text for text in found if text is not None), None)
        if first is not None:
            yield here, first
        if isinstance(value, Section):
            yield from _remarks((*sections, value), here, card, from_the_card)
        for index, entry in enumerate(value if isinstance(value, tuple) else ()):
            if isinstance(entry, Section):
                yield from _remarks((*sections, entry), (*here, index), card, from_the_card)


def conditions(metadata: Collection[Any]) -> str:
    """The documentation's sentence on when a key is used; empty if always."""
    return " ".join(f"Used only {note.when}." for note in metadata if isinstance(note, OnlyWith))


def given_keys(tree: Any, location: Location = ()) -> frozenset[Location]:
    """The locations of all keys in a tree."""
    found: set[Location] = set()
    entries: Mapping[Any, Any] | dict[int, Any] = {}
    if isinstance(tree, Mapping):
        entries = tree
        found |= {(*location, key) for key in tree}
    elif isinstance(tree, list):
        entries = dict(enumerate(tree))
    for key, inner in entries.items():
        found |= given_keys(inner, (*location, key))
    return frozenset(found)
