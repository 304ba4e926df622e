"""Judge images of the world with pixel rules.

A pixel has a colour if one of the world's eight colours is close (`MAX_DISTANCE`), clearly closer than the next one
(`MIN_LEAD`), and also the colour of its four neighbours. This excludes anti-aliased edges, whose mixtures could look
like other colours. Areas count only such pixels. Pixels without a colour count against an image only on the border. The
limits allow for the soft edges of a small VAE: its reconstruction of a perfect image has to pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.flux2_tiny.world import COLORS, EMBLEM_BOTTOM, EMBLEM_RADIUS_PX, EMBLEM_TOP, PLACES, RADIUS_PX, Scene

MAX_DISTANCE = 80.0
"""Largest RGB distance between a pixel and its colour; the two closest colours of the world are 87 apart."""
MIN_LEAD = 1.2
"""The second closest colour must be this many times as far away."""
BORDER_PX = 6
MIN_BORDER_SHARE = 0.6
"""Share of the border, `BORDER_PX` wide, that must have the background's colour."""
MIN_SHAPE_SHARE = 0.6
"""Share of all coloured pixels off the background that must have the requested colour, or the emblem's two colours."""
AREA_PER_RADIUS2 = (0.4, 4.5)
"""Limits of a shape's area over its squared radius: 1.1 (ring without edges) to 3.3 (square), widened for blur."""
HALF_AREA_PX = (200, 1500)
"""Limits of the area of each half of the emblem; sharp halves have 600 to 950."""
MAX_HALF_RATIO = 2.5
"""Largest ratio of the areas of the two halves."""
MAX_HALF_OFFSET_PX = 8.0
"""Largest horizontal distance between the halves' centres; their vertical distance is 18 to 22."""
MAX_SEAM_PX = 12
"""Largest gap between halves that touch: the seam is an edge, and edges have no colour."""
MIN_SEAM_LENGTH_PX = 16
"""Smallest number of columns in which the halves must touch; a sharp seam has 41 to 50."""

_NAMES = tuple(COLORS)
_PALETTE = np.array([COLORS[name] for name in _NAMES], dtype=np.float32)
NO_COLOR = -1


@dataclass(frozen=True)
class Verdict:
    """Which properties of a scene an image shows correctly."""

    background: bool
    color: bool
    place: bool

    @property
    def right(self) -> bool:
        """Whether all properties are correct."""
        return self.background and self.color and self.place


def judge_scene(image: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare an image with an ordinary scene of the world.

    Args:
        image: the image to judge, [H, W, 3], 0..255.
        scene: the requested scene; its shape is not judged, its size only to a factor of about two.

    Returns:
        `background`: the border has the requested colour. `color`: the shape has the requested colour and a plausible
        area. `place`: the requested place is the closest of the nine to the shape's centre; False without the shape.
    """
    colors = classify(image)
    shape = colors == _NAMES.index(scene.color)
    low, high = RADIUS_PX[scene.size]
    area = int(shape.sum())
    color = AREA_PER_RADIUS2[0] * low**2 <= area <= AREA_PER_RADIUS2[
        1
    ] * high**2 and area >= MIN_SHAPE_SHARE * _num_off_background(colors, scene.background)
    return Verdict(
        background=has_background(colors, scene.background),
        color=color,
        place=color and _place_of(shape) == scene.place,
    )


def shows_emblem(image: NDArray[np.uint8], *, place: str, background: str) -> bool:
    """Whether an image shows the demo's emblem at a place on a background.

    It must have both colours of the emblem and little else, with plausible and similar areas, one above the other and
    touching, and the requested place must be the closest to the centre of the two.

    Args:
        image: the image to judge, [H, W, 3], 0..255.
        place: the requested place, a key of `PLACES`.
        background: name of the requested background colour.
    """
    colors = classify(image)
    top, bottom = (colors == _NAMES.index(name) for name in (EMBLEM_TOP, EMBLEM_BOTTOM))
    areas = sorted((int(top.sum()), int(bottom.sum())))
    if areas[0] < HALF_AREA_PX[0] or areas[1] > HALF_AREA_PX[1] or areas[1] > MAX_HALF_RATIO * areas[0]:
        return False
    (x_top, y_top), (x_bottom, y_bottom) = _center(top), _center(bottom)
    return (
        has_background(colors, background)
        and sum(areas) >= MIN_SHAPE_SHARE * _num_off_background(colors, background)
        and abs(x_top - x_bottom) <= MAX_HALF_OFFSET_PX
        and 0 < y_bottom - y_top <= 1.5 * EMBLEM_RADIUS_PX[1]
        and _seam_length(top, bottom) >= MIN_SEAM_LENGTH_PX
        and _place_of(top | bottom) == place
    )


def classify(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Index of each pixel's colour in the world's colours, `NO_COLOR` if it has no clear colour; [H, W]."""
    distances = np.linalg.norm(image[:, :, None, :].astype(np.float32) - _PALETTE, axis=-1)  # [H, W, 8]
    nearest, next_one = np.partition(distances, 1, axis=-1)[:, :, :2].transpose(2, 0, 1)
    colors = distances.argmin(axis=-1)
    clear = (nearest <= MAX_DISTANCE) & (next_one >= MIN_LEAD * nearest)
    padded = np.pad(np.where(clear, colors, NO_COLOR), 1, mode="edge")
    inside = clear.copy()
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        inside &= neighbour == colors
    return np.where(inside, colors, NO_COLOR)


def has_background(colors: NDArray[np.int64], background: str) -> bool:
    """Whether the border has the background's colour; `colors` is the result of `classify`."""
    border = np.ones(colors.shape, dtype=bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    return bool((colors[border] == _NAMES.index(background)).mean() >= MIN_BORDER_SHARE)


def _num_off_background(colors: NDArray[np.int64], background: str) -> int:
    return int(((colors != NO_COLOR) & (colors != _NAMES.index(background))).sum())


def _center(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _place_of(mask: NDArray[np.bool_]) -> str:
    x, y = _center(mask)
    height, width = mask.shape
    return min(PLACES, key=lambda place: (PLACES[place][0] - x / width) ** 2 + (PLACES[place][1] - y / height) ** 2)


def _seam_length(top: NDArray[np.bool_], bottom: NDArray[np.bool_]) -> int:
    """Number of columns in which the lowest pixel of `top` is just above the highest pixel of `bottom`."""
    columns = np.flatnonzero(top.any(axis=0) & bottom.any(axis=0))
    lowest = top.shape[0] - 1 - top[::-1, columns].argmax(axis=0)
    highest = bottom[:, columns].argmax(axis=0)
    gap = highest - lowest
    return int(((gap > 0) & (gap <= MAX_SEAM_PX)).sum())
