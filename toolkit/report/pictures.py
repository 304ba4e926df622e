"""The pictures of a report: small copies inside the page, as many as its size allows."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.output.figures import number, whole
from toolkit.output.sample_files import SAMPLES, sample_names, spread
from toolkit.output.small_pictures import shrunk

_SIZES = (256, 192, 128, 96)  # px: the first at which all fit
_MOST_PICTURES = 240


@dataclass(frozen=True)
class Row:
    """The samples of one prompt.

    Attributes:
        prompt: as the log says it; empty if it does not.
        settings: what else the log says about how they are drawn, such as `seed 42`.
        pictures: step -> picture, as a `data:` address.
    """

    prompt: str
    settings: str
    pictures: Mapping[int, str]


@dataclass(frozen=True)
class Matrix:
    """Samples: a row per prompt, a picture per step.

    Attributes:
        steps: those that are shown.
        rows: one for each prompt.
        num_steps: at how many steps samples were drawn.
    """

    steps: Sequence[int]
    rows: Sequence[Row]
    num_steps: int


def sample_matrix(folder: Path, drawn: Mapping[str, Mapping[str, Any]], *, most_bytes: int) -> Matrix:
    """The samples in an output folder, small enough to take at most `most_bytes` of the page.

    Args:
        folder: the output folder.
        drawn: what the log says about each sample, by file name.
        most_bytes: of all pictures, as they are in the page.
    """
    names = sample_names(folder / SAMPLES)
    steps = sorted({step for step, _ in names})
    indices = sorted({index for _, index in names})[:_MOST_PICTURES]
    shown = spread(steps, max(2, _MOST_PICTURES // max(1, len(indices))))
    while True:
        for size_px in _SIZES:
            places = {place: names[place] for place in names if place[0] in shown and place[1] in indices}
            pictures = _small(folder / SAMPLES, places, size_px, most_bytes)
            if pictures is not None:
                rows = [_row(index, names, pictures, drawn) for index in indices]
                return Matrix(shown, [row for row in rows if row.pictures], len(steps))
        if len(shown) > 2:
            shown = spread(shown, max(2, len(shown) // 2))
        else:
            indices = indices[: len(indices) // 2]


def _small(folder: Path, places: Mapping[Any, str], size_px: int, most_bytes: int) -> dict[Any, str] | None:
    """The pictures as addresses; None if they take too much room. One that cannot be read is left out."""
    found, size = {}, 0
    for place, name in places.items():
        try:
            found[place] = address_of(shrunk(folder / name, size_px))
        except UserError:
            continue
        size += len(found[place])
        if size > most_bytes:
            return None
    return found


def address_of(webp: bytes) -> str:
    """A WebP as an address that holds the picture itself."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def _row(index: int, names: Mapping[Any, str], pictures: Mapping[Any, str], drawn: Mapping[str, Any]) -> Row:
    newest = max((step for step, other in names if other == index), default=0)
    event = drawn.get(names[newest, index], {})
    settings = [f"seed {seed}"] if (seed := whole(event.get("seed"))) is not None else []
    if (strength := number(event.get("network_multiplier"))) not in (None, 1.0):
        settings.append(f"strength {strength:g}")
    shown = {step: picture for (step, other), picture in sorted(pictures.items()) if other == index}
    return Row(str(event.get("prompt", "")), ", ".join(settings), shown)
