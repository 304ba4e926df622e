"""What a drawing job draws, as a grid: a column for each LoRA and strength, a row for each prompt and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.output.figures import number, whole
from ui.server.jobs.files import drawn, file_id
from ui.server.jobs.follow import events_of
from ui.server.jobs.job import EVENTS_FILE, Job
from ui.server.jobs.settings import PICTURES
from ui.server.refusal import Refusal
from ui.server.schemas import Grid, GridColumn, GridRow
from ui.server.tryout.loras import facts_of
from ui.server.words import clean


def grid_of(job: Job, id_of: Callable[[Path], str | None]) -> Grid:
    """The grid of the last start, with the pictures that are there.

    Args:
        job: the job.
        id_of: gives the id of the job whose folder this is; None if it is none.

    Raises:
        Refusal: it does not draw.
    """
    if job.settings.kind != PICTURES:
        raise Refusal(409, "This job trains. Its pictures are under Samples.")
    planned = events_of(job.folder / EVENTS_FILE, "pictures")
    if not planned:
        return Grid(columns=[], rows=[], cells=[], num_drawn=0)
    said = planned[-1]
    there = {path.name: file_id(job, path) for path in drawn(job)}
    columns = [it for it in _list(said, "columns") if isinstance(it, dict)]
    rows = [it for it in _list(said, "rows") if isinstance(it, dict)]
    files = _list(said, "files")
    cells = [
        [there.get(str(name)) for name in (names if isinstance(names, list) else [])][: len(rows)]
        for names in files[: len(columns)]
    ]
    own = _own(columns)
    return Grid(
        columns=[_column(it, loras, id_of) for it, loras in zip(columns, own, strict=True)],
        rows=[GridRow(prompt=clean(str(it.get("prompt", ""))), seed=whole(it.get("seed")) or 0) for it in rows],
        cells=cells,
        num_drawn=sum(cell is not None for column in cells for cell in column),
    )


def _own(columns: list[dict[str, Any]]) -> list[list[Any]]:
    """The LoRAs of each column without those that all of them have."""
    loras = [_list(column, "loras") for column in columns]
    common = [it for it in loras[0] if all(it in other for other in loras)] if len(loras) > 1 else []
    return [[it for it in each if it not in common] for each in loras]


def _column(said: dict[str, Any], loras: list[Any], id_of: Callable[[Path], str | None]) -> GridColumn:
    last = loras[-1] if loras and isinstance(loras[-1], list) and len(loras[-1]) == 2 else None
    if last is None:
        name = str(said.get("name", "")) or "All pictures"
        return GridColumn(name=clean(name), path=None, strength=None, job_id=None, step=None)
    path = Path(str(last[0]))
    facts = facts_of(path)
    return GridColumn(
        name=clean(path.stem),
        path=clean(str(path)),
        strength=number(last[1]),
        job_id=id_of(path.parent),
        step=None if facts is None else facts.step,
    )


def _list(said: dict[str, Any], key: str) -> list[Any]:
    found = said.get(key)
    return found if isinstance(found, list) else []
