"""The rows of the table of captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ui.simple.pictures import captions

Read = tuple[str, dict[str, str]]
"""The name whose captions a tab shows, and these as it has read them."""


def caption_rows(name: str, folder: Path) -> tuple[list[list[str]], Read]:
    """The rows of the table, and what is remembered of them."""
    found = captions(folder)
    return [list(row) for row in found], (name, dict(found))


def rows_of_folder(rows: list[list[Any]] | None, folder: Path) -> list[list[Any]]:
    """The rows that name a picture of this folder: the table may still show another name's."""
    known = {name for name, _ in captions(folder)}
    return [row for row in rows or [] if row and row[0] in known]
