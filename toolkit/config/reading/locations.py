"""Locations in a job file: ("config", "process", 0, "train", "lr") is shown as config.process[0].train.lr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Location = tuple[str | int, ...]


def text_of(location: Location) -> str:
    """The location as shown to users."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def value_at(tree: Any, location: Location) -> Any:
    """The value at a location.

    Raises:
        LookupError: the tree has no such location.
    """
    for part in location:
        in_dict = isinstance(tree, dict) and part in tree
        in_list = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if not in_dict and not in_list:
            raise LookupError(text_of(location))
        tree = tree[part]
    return tree


def order_of(tree: Any, location: Location) -> tuple[int, ...]:
    """A sort key that puts locations in file order; keys missing from the file come last in their section."""
    order = []
    for part in location:
        keys: Sequence[Any] = (
            list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        )
        order.append(keys.index(part) if part in keys else len(keys))
        tree = tree[part] if part in keys else None
    return tuple(order)
