"""A moving picture of a prompt: how its samples change over the steps of a training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from toolkit.draw.sheet import fitted
from toolkit.files import write_bytes

SIDE_PX = 384
_HEADER_PX = 18
_FRAME_MS, _LAST_MS = 500, 2000


def write_strip(path: Path, names: Sequence[str], pictures: Sequence[Path]) -> None:
    """Write a GIF or WebP, whichever the name says, that shows pictures one after another and begins again.

    Args:
        path: the file.
        names: what stands above each picture.
        pictures: files of the pictures, at least one; all get the size of the first.
    """
    frames: list[Image.Image] = []
    for name, picture in zip(names, pictures, strict=True):
        with Image.open(picture) as image:
            cell = fitted(image.convert("RGB"), SIDE_PX)
        size = frames[0].size if frames else (cell.width, cell.height + _HEADER_PX)
        frame = Image.new("RGB", size, "white")
        frame.paste(cell, (0, _HEADER_PX))
        ImageDraw.Draw(frame).text((4, 3), name, fill="black")
        frames.append(frame)
    durations = [*[_FRAME_MS] * (len(frames) - 1), _LAST_MS]
    content = io.BytesIO()
    kind = path.suffix.removeprefix(".").upper()
    frames[0].save(content, kind, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=85)
    write_bytes(path, content.getvalue())
