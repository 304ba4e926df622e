"""Places in a job file: ("config", "process", 0, "train", "lr") is shown as config.process[0].train.lr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from toolkit.section import Section, section_in

Location = tuple[str | int, ...]


def text_of(location: Location) -> str:
    """The location as users read it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def value_at(tree: Any, location: Location) -> Any:
    """The value there.

    Raises:
        LookupError: there is none.
    """
    for part in location:
        in_dict = isinstance(tree, dict) and part in tree
        in_list = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if not in_dict and not in_list:
            raise LookupError(text_of(location))
        tree = tree[part]
    return tree


def order_of(tree: Any, location: Location) -> tuple[int, ...]:
    """A sort key that puts locations in the order of the file; what the file lacks comes last in its section."""
    order = []
    for part in location:
        keys: Sequence[Any] = (
            list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        )
        order.append(keys.index(part) if part in keys else len(keys))
        tree = tree[part] if part in keys else None
    return tuple(order)


def name_as_written(location: Location, root: type[Section], tree: Any) -> Location:
    """The location with that name of its key that the tree uses."""
    section = section_at(root, location[:-1], tree)
    here = _mapping_at(tree, location[:-1])
    for alias, key in section.aliases.items() if section else ():
        if location[-1] == key and alias in here and key not in here:
            return (*location[:-1], alias)
    return location


def section_at(root: type[Section], location: Location, tree: Any) -> type[Section] | None:
    """The section class at a location of a tree, or None if no section stands there."""
    section: type[Section] | None = root
    for depth, part in enumerate(location):
        if isinstance(part, int):
            continue  # an entry of a list of sections is such a section
        field = None if section is None else section.model_fields.get(part)
        section = None if field is None else section_in(field, _mapping_at(tree, location[:depth]))
    return section


def mappings(tree: Any, root: type[Section], location: Location = ()) -> Iterator[tuple[Location, type[Section], Any]]:
    """Every mapping of a tree that is a section, outer ones first. Its keys may be changed before going on."""
    if isinstance(tree, list):
        for index, entry in enumerate(tree):
            yield from mappings(entry, root, (*location, index))
    elif isinstance(tree, dict):
        yield location, root, tree
        for key, field in root.model_fields.items():
            inner = section_in(field, tree)
            if inner is not None and key in tree:
                yield from mappings(tree[key], inner, (*location, key))


def _mapping_at(tree: Any, location: Location) -> dict[str, Any]:
    try:
        value = value_at(tree, location)
    except LookupError:
        return {}
    return value if isinstance(value, dict) else {}
