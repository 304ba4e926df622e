"""One picture of many: named rows and columns of small ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

CELL_PX = 256
_HEADER_PX = 18
_NAMES_PX = 160
_LINE_PX, _LINE_CHARACTERS = 13, 25


def draw_sheet(columns: Sequence[str], rows: Sequence[str], pictures: Mapping[tuple[int, int], Path]) -> Image.Image:
    """A sheet with a row and a column of names.

    Args:
        columns: names of the columns.
        rows: names of the rows, which may be long; all empty: there is no column of names.
        pictures: files by column and row, from 0; cells without one stay white.
    """
    left_px = _NAMES_PX if any(rows) else 0
    size = (left_px + len(columns) * CELL_PX, _HEADER_PX + len(rows) * CELL_PX)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(rows):
        for line, text in enumerate(_lines(name)):
            pen.text((4, _HEADER_PX + row * CELL_PX + 4 + line * _LINE_PX), text, fill="black")
    for column, name in enumerate(columns):
        left = left_px + column * CELL_PX
        pen.text((left + 4, 3), name, fill="black")
        for row in range(len(rows)):
            if (column, row) in pictures:
                with Image.open(pictures[column, row]) as image:
                    cell = _fit(image.convert("RGB"))
                sheet.paste(cell, (left + (CELL_PX - cell.width) // 2, _HEADER_PX + row * CELL_PX))
    return sheet


def fitted(image: Image.Image, side_px: int) -> Image.Image:
    """A picture whose longer side has so many pixels."""
    scale = side_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _fit(image: Image.Image) -> Image.Image:
    return fitted(image, CELL_PX - 4)


def _lines(name: str) -> list[str]:
    most = (CELL_PX - 8) // _LINE_PX
    return textwrap.wrap(name, _LINE_CHARACTERS, max_lines=most, placeholder=" ...")
