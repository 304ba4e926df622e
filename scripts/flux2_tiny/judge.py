"""Judge drawn pictures of the world by pixel rules.

A pixel has a colour when one of the world's eight is near (`MAX_DISTANCE`) and clearly nearer than the next
(`MIN_LEAD`), and when its four neighbours have the same: this leaves out anti-aliased edges, whose mixtures would
pass for other colours. All areas are in such pixels. Pixels that are neither background nor coloured count against
the picture only on the border. The limits are wide enough for the soft edges of a small VAE, whose own round trip of a
perfect picture has to pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.flux2_tiny.world import COLORS, EMBLEM_BOTTOM, EMBLEM_RADIUS_PX, EMBLEM_TOP, PLACES, RADIUS_PX, Scene

MAX_DISTANCE = 80.0
"""RGB distance up to which a pixel can have a colour; the two nearest colours of the world are 87 apart."""
MIN_LEAD = 1.2
"""The next colour must be this many times as far."""
BORDER_PX = 6
MIN_BORDER_SHARE = 0.6
"""Share of the outermost `BORDER_PX` that must have the background's colour."""
MIN_SHAPE_SHARE = 0.6
"""Share of all coloured pixels off the background that must have the asked colour, or the emblem's two."""
AREA_PER_RADIUS2 = (0.4, 4.5)
"""Area of a shape over its squared radius: 1.1 (a ring without its edges) to 3.3 (a square), widened for blur."""
HALF_AREA_PX = (200, 1500)
"""Area of each half of the emblem; sharp halves have 600 to 950."""
MAX_HALF_RATIO = 2.5
"""How many times as large as the other one half may be."""
MAX_HALF_OFFSET_PX = 8.0
"""How far the halves' centres may be apart sideways; they are 18 to 22 apart in height."""
MAX_SEAM_PX = 12
"""Gap between the halves that still counts as touching: the seam is an edge, and edges have no colour."""
MIN_SEAM_LENGTH_PX = 16
"""Columns in which the halves must touch; a sharp seam has 41 to 50."""

_NAMES = tuple(COLORS)
_PALETTE = np.array([COLORS[name] for name in _NAMES], dtype=np.float32)
NO_COLOR = -1


@dataclass(frozen=True)
class Verdict:
    """What of a scene is in a picture."""

    background: bool
    color: bool
    place: bool

    @property
    def right(self) -> bool:
        """Everything is."""
        return self.background and self.color and self.place


def judge_scene(image: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare a picture with an ordinary scene of the world.

    Args:
        image: [H, W, 3], 0..255.
        scene: what was asked for; its shape is not judged, its size only to a factor of about two.

    Returns:
        background: the border has the asked colour. color: the shape has the asked one and a sane area.
        place: the shape's centre is nearest to the asked one of the nine places. Without the shape no place is right.
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
    """Whether a picture shows the demo's emblem at a place on a background.

    Both its colours are there with sane and similar areas and little else, one above the other, touching, and the
    whole's centre is nearest to the asked place.

    Args:
        image: [H, W, 3], 0..255.
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
    """Index into the world's colours for every pixel that clearly has one, `NO_COLOR` elsewhere; [H, W]."""
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
    """Whether the border has a colour of the world; `colors` is from `classify`."""
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
    """Number of columns in which the lowest pixel of `top` lies just above the highest of `bottom`."""
    columns = np.flatnonzero(top.any(axis=0) & bottom.any(axis=0))
    lowest = top.shape[0] - 1 - top[::-1, columns].argmax(axis=0)
    highest = bottom[:, columns].argmax(axis=0)
    gap = highest - lowest
    return int(((gap > 0) & (gap <= MAX_SEAM_PX)).sum())
