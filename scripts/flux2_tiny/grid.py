"""Lay out images in labelled rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scripts.flux2_tiny.world import SIZE_PX

GAP_PX = 4
LABEL_WIDTH_PX = 52
CAPTION_HEIGHT_PX = 52
CHARACTERS_PER_LINE = 22

Row = tuple[str, Sequence[str], Sequence[NDArray[np.uint8]]]
"""A label for the left edge, a caption for every image (or none at all), and images [128, 128, 3]."""


def picture_grid(rows: Sequence[Row]) -> Image.Image:
    """A white sheet with all rows, with captions above the rows that have them."""
    num_columns = max(len(pictures) for _, _, pictures in rows)
    heights = [SIZE_PX + GAP_PX + (CAPTION_HEIGHT_PX if captions else 0) for _, captions, _ in rows]
    sheet = Image.new("RGB", (LABEL_WIDTH_PX + num_columns * (SIZE_PX + GAP_PX), sum(heights) + GAP_PX), "white")
    canvas = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    top = GAP_PX
    for (label, captions, pictures), height in zip(rows, heights, strict=True):
        for column, caption in enumerate(captions):
            text = "\n".join(textwrap.wrap(caption, CHARACTERS_PER_LINE))
            canvas.multiline_text((LABEL_WIDTH_PX + column * (SIZE_PX + GAP_PX), top), text, "black", font, spacing=1)
        picture_top = top + (CAPTION_HEIGHT_PX if captions else 0)
        canvas.text((GAP_PX, picture_top + SIZE_PX // 2), label, "black", font)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (LABEL_WIDTH_PX + column * (SIZE_PX + GAP_PX), picture_top))
        top += height
    return sheet
