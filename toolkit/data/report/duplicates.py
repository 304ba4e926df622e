"""Finds images that are the same, or nearly: resized, recompressed or slightly cropped copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from toolkit.data.image_files import DECODE_ERRORS, ImageError, open_image, read_image

_SIDE = 32  # of the picture that is transformed, as in pHash
_LOW = 8  # frequencies kept in each direction
MOST_BITS = 8  # of 64 that differ between copies
MOST_COLOR = 10.0  # mean difference of 8 x 8 thumbnails, of 255
Array = Any


@dataclass(frozen=True)
class Look:
    """What an image looks like, small.

    Attributes:
        bits: signs of its lowest frequencies against their median, 64 bits.
        colors: its mean colours on a grid of 8 x 8, [192], 0..255.
    """

    bits: int
    colors: Array


def look_at(path: Path) -> Look | None:
    """The look of an image; None if it cannot be read.

    Source: perceptual hash by discrete cosine transform, Zauner 2010 (pHash), with colours beside it, since images of
    one colour have no frequencies.
    """
    try:
        image = open_image(read_image(path))
        image.draft("RGB", (4 * _SIDE, 4 * _SIDE))
        image = image.convert("RGB")
    except (ImageError, *DECODE_ERRORS):
        return None
    grey = numpy.asarray(image.convert("L").resize((_SIDE, _SIDE)), dtype=numpy.float64)
    transform = _cosines()
    low = (transform @ grey @ transform.T)[:_LOW, :_LOW].flatten().round(3)  # one colour: all but the mean are 0
    signs = low > numpy.median(low[1:])
    signs[0] = False  # the mean brightness
    colors = numpy.asarray(image.resize((_LOW, _LOW)), dtype=numpy.float32).flatten()
    return Look(int("".join("1" if sign else "0" for sign in signs), 2), colors)


def exact_groups(hashes: Mapping[Path, str]) -> list[tuple[Path, ...]]:
    """Images with equal files, in groups of two or more."""
    groups: dict[str, list[Path]] = {}
    for path, content in hashes.items():
        groups.setdefault(content, []).append(path)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near_groups(
    hashes: Mapping[Path, str], *, count: Callable[[int, int], None] = lambda done, total: None
) -> list[tuple[Path, ...]]:
    """Images that look alike and whose files differ, in groups; of equal files, one counts.

    Args:
        hashes: image -> hash of its file.
        count: called with how many are done, of how many.
    """
    paths = list({content: path for path, content in reversed(list(hashes.items()))}.values())[::-1]
    with ThreadPoolExecutor() as pool:
        looks = {}
        for number, (path, look) in enumerate(zip(paths, pool.map(look_at, paths), strict=True), 1):
            looks[path] = look
            count(number, len(paths))
    seen = [path for path in paths if looks[path] is not None]
    return _grouped(seen, [look for path in seen if (look := looks[path]) is not None])


def _grouped(paths: Sequence[Path], looks: Sequence[Look]) -> list[tuple[Path, ...]]:
    """Each image that is in no group yet, with all later ones that look like it."""
    if not paths:
        return []
    bits = numpy.array([look.bits for look in looks], dtype=numpy.uint64)
    colors = numpy.stack([look.colors for look in looks])
    is_free = numpy.ones(len(paths), dtype=bool)
    groups = []
    for index, path in enumerate(paths):
        if not is_free[index]:
            continue
        later = index + 1 + numpy.flatnonzero(numpy.bitwise_count(bits[index + 1 :] ^ bits[index]) <= MOST_BITS)
        later = later[is_free[later]]
        alike = later[numpy.abs(colors[later] - colors[index]).mean(axis=1) <= MOST_COLOR]
        if len(alike):
            is_free[alike] = False
            groups.append((path, *(paths[number] for number in alike)))
    return groups


def _cosines() -> Array:
    """The matrix of the discrete cosine transform (type II), [32, 32]."""
    rows, columns = numpy.mgrid[0:_SIDE, 0:_SIDE]
    return numpy.cos(numpy.pi * rows * (2 * columns + 1) / (2 * _SIDE))
