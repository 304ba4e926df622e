"""Writes the pictures and the sheet of a drawing job, what they say about themselves, and which there will be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from extensions_built_in.generator.drawing_check import DrawChecked
from toolkit.config import SampleItem
from toolkit.config.drawing.generate import GenerateProcessConfig
from toolkit.draw.columns import Column, columns_of
from toolkit.draw.pictures import data_hash
from toolkit.draw.sheet import draw_sheet
from toolkit.files import write_text
from toolkit.train.tasks.metadata import SOFTWARE, published_name
from toolkit.train.tasks.sample_info import item_info
from toolkit.train.tasks.sampling import save_image
from toolkit.version import VERSION


def planned(checked: DrawChecked, drawing: GenerateProcessConfig) -> dict[str, Any]:
    """What the event log says about all pictures of a job before the first is drawn: see `pictures` of EventLog."""
    redact = checked.start.job.redact
    columns = columns_of(drawing)
    rows = {it.index: {"prompt": redact(it.item.prompt), "seed": it.item.seed} for it in checked.pictures}
    files: list[list[str]] = [[] for _ in columns]
    for picture in checked.pictures:
        files[picture.column].append(picture.file)
    memory = checked.memory
    return {
        "device": None if memory is None else memory.device_name,
        "columns": [
            {"name": redact(column.name), "loras": [[redact(str(path)), weight] for path, weight in column.loras]}
            for column in columns
        ],
        "rows": list(rows.values()),
        "files": files,
    }


def write_picture(
    image: Image.Image,
    path: Path,
    item: SampleItem,
    column: Column,
    checked: DrawChecked,
    drawing: GenerateProcessConfig,
) -> None:
    """Write a picture, and the text file with its prompt if the job asks for one.

    Args:
        image, path: the picture, and where it belongs.
        item: what was drawn, with the seed that it was drawn with.
        column: how it was drawn.
        checked, drawing: the job and its settings.
    """
    redact = checked.start.job.redact
    save_image(image, path, _info(item, column, drawing, redact))
    if drawing.generate.prompt_file:
        write_text(path.with_suffix(".txt"), redact(item.prompt))


def write_sheet(checked: DrawChecked, drawing: GenerateProcessConfig) -> Path | None:
    """Arrange the pictures of a job on its sheet: a row per prompt. None if the job asks for no sheet."""
    if drawing.sheet == "none":
        return None
    folder, names = checked.start.output_folder, [column.name for column in columns_of(drawing)]
    seed = ", seed {}" if drawing.generate.seeds else ""
    rows = {it.index: checked.start.job.redact(it.item.prompt) + seed.format(it.item.seed) for it in checked.pictures}
    shown = {(one.column, one.index): folder / one.file for one in checked.pictures}
    path = folder / f"sheet_{drawing.sheet}.{drawing.generate.ext}"
    save_image(draw_sheet(names, list(rows.values()), shown), path)
    return path


def _info(
    item: SampleItem, column: Column, drawing: GenerateProcessConfig, redact: Callable[[str], str]
) -> dict[str, Any]:
    loras = [
        {"name": redact(path.stem), "weight": weight, "hash": data_hash(path)[:12]} for path, weight in column.loras
    ]
    return item_info(item, redact) | {
        "base_model": json.dumps({"name": redact(published_name(drawing.model.name_or_path))}),
        "loras": loras,
        "software": json.dumps({"name": SOFTWARE, "version": VERSION}),
    }
