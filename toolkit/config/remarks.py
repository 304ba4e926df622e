"""What is said of a key because of the settings around it: annotations that stand beside its type and default.

A key that a job file gives and that nothing reads under the job's other settings would look alive: `OnlyWith` says what
it depends on. The notice, and the sentence in docs/config.md, are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from toolkit.cards import ModelCard
from toolkit.config.reading.locations import Location
from toolkit.section import Section


@dataclass(frozen=True)
class Around:
    """What stands around a key of a process.

    Attributes:
        location: of the key, below the process.
        sections: from the process to the section that the key is in.
        card: of the job's model; None where there is none.
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
        """The section around that one."""
        return self.sections[-2]

    @property
    def value(self) -> Any:
        """The value of the key."""
        return getattr(self.section, str(self.location[-1]))

    def is_within(self, key: str) -> bool:
        """Whether the key stands in the process's section `key`."""
        return self.location[0] == key

    def can(self, capability: str) -> bool:
        """Whether the model's card promises it; True where there is no card."""
        return self.card is None or capability in self.card.capabilities


class Remark(Protocol):
    """What is said of a key in some settings."""

    def remark(self, around: Around) -> str | None:
        """The notice, or None where there is nothing to say."""
        ...


@dataclass(frozen=True, eq=False)
class OnlyWith:
    """Annotation of a key that is read only beside certain other settings.

    Attributes:
        when: those settings, as the end of a sentence that begins with "is read only".
        is_read: whether they are there.
    """

    when: str
    is_read: Callable[[Around], bool]

    def remark(self, around: Around) -> str | None:
        """See Remark."""
        return None if self.is_read(around) else f"does nothing here: it is read only {self.when}"


@dataclass(frozen=True, eq=False)
class Worth:
    """Annotation of a key with a value that is worth a word beside certain other settings.

    Attributes:
        says: gives the notice, or None where there is nothing to say.
    """

    says: Callable[[Around], str | None]

    def remark(self, around: Around) -> str | None:
        """See Remark."""
        return self.says(around)


def remarks(
    process: Section, card: ModelCard | None, *, from_the_card: Collection[Location]
) -> list[tuple[Location, str]]:
    """What is to be said of the keys that a job file gives another value than their default.

    Args:
        process: the checked settings.
        card: of the model.
        from_the_card: keys that the job file does not give, though they are set.

    Returns:
        Notices with their locations below the process.
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
        if value != field.get_default(call_default_factory=True, validated_data=dict(section)):
            around = Around(here, sections, card)
            found = [note.remark(around) for note in field.metadata if isinstance(note, OnlyWith | Worth)]
            first = next((what for what in found if what is not None), None)
            if first is not None:
                yield here, first
        if isinstance(value, Section):
            yield from _remarks((*sections, value), here, card, from_the_card)
        for index, entry in enumerate(value if isinstance(value, tuple) else ()):
            if isinstance(entry, Section):
                yield from _remarks((*sections, entry), (*here, index), card, from_the_card)


def conditions(metadata: Collection[Any]) -> str:
    """The sentence of the documentation on when a key is read; empty if always."""
    return " ".join(f"Read only {note.when}." for note in metadata if isinstance(note, OnlyWith))


def given_keys(tree: Any, location: Location = ()) -> frozenset[Location]:
    """The location of every key in a tree."""
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
