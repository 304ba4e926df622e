"""Which section class applies at each location of a job: that of an entry of `process` depends on its type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.config.job import JobFile, job_sections, kind_of
from toolkit.config.process import ProcessConfig
from toolkit.config.reading.known import Known
from toolkit.config.reading.locations import Location, value_at
from toolkit.section import Section, section_in

PROCESSES: Location = ("config", "process")


@dataclass(frozen=True)
class Layout:
    """The section classes of one job.

    Attributes:
        processes: the settings class of each entry of `config.process`.
        tree: the parsed job; some of its values decide a section class, such as the optimizer that it names.
    """

    processes: tuple[type[ProcessConfig], ...] = ()
    tree: Any = None

    @classmethod
    def of(cls, tree: Any, known: Known) -> Layout:
        """The layout of a parsed job file, which may contain any mistake."""
        entries = _value_or_none(tree, PROCESSES)
        kinds = tuple(kind_of(entry, known.processes) for entry in entries) if isinstance(entries, list) else ()
        return cls(kinds, tree)

    def section_at(self, location: Location) -> type[Section] | None:
        """The section class at a location, or None if the location is not a section."""
        section: type[Section] | None = JobFile
        for depth, part in enumerate(location):
            if isinstance(part, int):  # the entries of a list of sections have the class of the list
                is_known = section is ProcessConfig and part < len(self.processes)
                section = self.processes[part] if is_known else section
            else:
                field = None if section is None else section.model_fields.get(part)
                section = None if field is None else section_in(field, _value_or_none(self.tree, location[:depth]))
        return section

    def entries(self, tree: Any) -> Iterator[tuple[Location, type[ProcessConfig], dict[str, Any]]]:
        """Every entry of `process` that is a mapping: its location, its settings class, and the entry."""
        entries = _value_or_none(tree, PROCESSES)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield (*PROCESSES, index), self.processes[index], entry

    def sections_around(self, location: Location) -> dict[str, type[Section]]:
        """Every section class of the job by its path; of the processes, only that at `location`, or the first."""
        is_inside = location[:2] == PROCESSES and len(location) > 2
        section = self.section_at((*PROCESSES, location[2] if is_inside else 0))
        return job_sections(section if section is not None and issubclass(section, ProcessConfig) else ProcessConfig)

    def mappings(self, tree: Any, location: Location = ()) -> Iterator[tuple[Location, type[Section], dict[str, Any]]]:
        """Every mapping in a tree that is a section, outermost first: its location, its section class, and the mapping.

        The caller may change a mapping's keys before asking for the next one.

        Args:
            tree: the value at `location`.
            location: location in the job to begin at.
        """
        section = self.section_at(location)
        if isinstance(tree, list):
            for index, entry in enumerate(tree):
                yield from self.mappings(entry, (*location, index))
        elif isinstance(tree, dict) and section is not None:
            yield location, section, tree
            for key, field in section.model_fields.items():
                if key in tree and section_in(field, tree) is not None:
                    yield from self.mappings(tree[key], (*location, key))

    def name_as_written(self, location: Location, tree: Any) -> Location:
        """The location with the alias that the tree uses for its key, and without a list that the tree leaves out."""
        section = self.section_at(location[:-1])
        location = _without_missing_lists(location, tree)
        here = _value_or_none(tree, location[:-1])
        for alias, key in section.aliases.items() if section and isinstance(here, dict) else ():
            if location[-1] == key and alias in here and key not in here:
                return (*location[:-1], alias)
        return location


def _without_missing_lists(location: Location, tree: Any) -> Location:
    """The location without the index of a mapping that is written alone instead of in a list of one."""
    found: list[int | str] = []
    for part in location:
        if part == 0 and isinstance(_value_or_none(tree, tuple(found)), dict):
            continue
        found.append(part)
    return tuple(found)


def _value_or_none(tree: Any, location: Location) -> Any:
    try:
        return value_at(tree, location)
    except LookupError:
        return None
