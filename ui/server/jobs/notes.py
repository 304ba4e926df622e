"""`notes.json` of an output folder: what people say about a job on the page."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.files import write_json

NOTES_FILE = "notes.json"


@dataclass(frozen=True)
class Notes:
    """What people say about a job.

    Attributes:
        created: when the page made the job, in seconds since 1970; 0 if it did not.
        stars: 0 to 5.
        note: free text.
        starred: names of its best samples.
        origin: id of the job that it was cloned from; empty if it was not.
    """

    created: float = 0.0
    stars: int = 0
    note: str = ""
    starred: tuple[str, ...] = ()
    origin: str = ""


def read_notes(folder: Path) -> Notes:
    """The notes of a folder; damaged ones count as none."""
    try:
        found: Any = json.loads((folder / NOTES_FILE).read_text(encoding="utf-8"))
        return Notes(
            created=float(found.get("created", 0.0)),
            stars=min(5, max(0, int(found.get("stars", 0)))),
            note=str(found.get("note", "")),
            starred=tuple(map(str, found.get("starred", ()))),
            origin=str(found.get("origin", "")),
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return Notes()


def write_notes(folder: Path, notes: Notes) -> None:
    """Write the notes of a folder."""
    write_json(folder / NOTES_FILE, asdict(notes))


def new_notes(origin: str = "") -> Notes:
    """Those of a job that the page makes now, out of another one if its id is given."""
    return Notes(created=round(time.time(), 3), origin=origin)
