"""A small description of what an image looks like, to find copies and defects. Kept on disk between reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from toolkit.data.image_files import DECODE_ERRORS, ImageError, open_image, read_image
from toolkit.data.sources.known import KnownFiles

_SIDE = 32  # of the picture that is transformed, as in pHash
_LOW = 8  # frequencies kept in each direction
_JUDGED_PX = 768  # longest side of the picture whose sharpness is judged
_BLUR_PX = 9  # width of the blur that it is compared with
_FLAT = 2.0  # mean difference of neighbouring pixels, of 255, below which there is nothing to be sharp
_AT_ONCE = 200
Array = Any

# The number is raised when the look of the same image would be another. Keyed by content, not by path.
KNOWN = KnownFiles(table="looks_1")


@dataclass(frozen=True)
class Look:
    """What an image looks like.

    Attributes:
        bits: signs of its lowest frequencies against their median, 64 bits.
        colors: its mean colours on a grid of 8 x 8, [192], 0..255.
        blur: 0 sharp to 1 blurred; 0 for an image without any detail.
        brightness, contrast: mean and standard deviation of its luminance, 0..1.
    """

    bits: int
    colors: tuple[int, ...]
    blur: float
    brightness: float
    contrast: float


def look_at(path: Path) -> Look | None:
    """The look of an image; None if it cannot be read.

    Source of the bits: perceptual hash by discrete cosine transform, Zauner 2010 (pHash), with colours beside it, since
    images of one colour have no frequencies. Of the blur: Crete et al. 2007, "The blur effect".
    """
    try:
        image = open_image(read_image(path))
        image.draft("RGB", (_JUDGED_PX, _JUDGED_PX))
        image = image.convert("RGB")
    except (ImageError, *DECODE_ERRORS):
        return None
    image.thumbnail((_JUDGED_PX, _JUDGED_PX), Image.Resampling.BOX)
    grey = image.convert("L")
    levels = numpy.asarray(grey, dtype=numpy.float32)
    small = numpy.asarray(grey.resize((_SIDE, _SIDE)), dtype=numpy.float64)
    transform = _cosines()
    low = (transform @ small @ transform.T)[:_LOW, :_LOW].flatten().round(3)  # one colour: all but the mean are 0
    signs = low > numpy.median(low[1:])
    signs[0] = False  # the mean brightness
    return Look(
        bits=int("".join("1" if sign else "0" for sign in signs), 2),
        colors=tuple(numpy.asarray(image.resize((_LOW, _LOW))).flatten().tolist()),
        blur=round(max(_blur(levels), _blur(levels.T)), 3),
        brightness=round(float(levels.mean()) / 255, 3),
        contrast=round(float(levels.std()) / 255, 3),
    )


def looks_of(
    hashes: Mapping[Path, str], *, count: Callable[[int, int], None] = lambda done, total: None
) -> dict[Path, Look]:
    """The looks of images; those that cannot be read are left out. Images seen before are not opened again.

    Args:
        hashes: image -> hash of its file.
        count: called with how many are done, of how many.
    """
    known = {name: Look(**_tupled(facts)) for name, (_, facts) in KNOWN.read(list(hashes.values())).items()}
    new = list({content: path for path, content in hashes.items() if content not in known}.items())
    fresh: dict[str, Look] = {}
    with ThreadPoolExecutor() as pool:
        for number, ((content, _), look) in enumerate(zip(new, pool.map(look_at, dict(new).values()), strict=True), 1):
            if look is not None:
                known[content] = fresh[content] = look
            if len(fresh) >= _AT_ONCE:
                _keep(fresh)
            count(len(hashes) - len(new) + number, len(hashes))
    _keep(fresh)
    return {path: known[content] for path, content in hashes.items() if content in known}


def _keep(fresh: dict[str, Look]) -> None:
    if fresh:
        KNOWN.write((content, (0, 0, 0, 0, 0), vars(look)) for content, look in fresh.items())
    fresh.clear()


def _tupled(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "colors": tuple(facts["colors"])}


def _blur(levels: Array) -> float:
    """Blur, 0..1: how little blurring [H, W] along a row changes the differences between neighbours in it."""
    if levels.shape[1] <= 2 * _BLUR_PX:
        return 0.0
    sums = numpy.cumsum(levels, axis=1, dtype=numpy.float64)
    blurred = (sums[:, _BLUR_PX:] - sums[:, :-_BLUR_PX]) / _BLUR_PX
    start = _BLUR_PX // 2 + 1
    own = numpy.abs(numpy.diff(levels[:, start : start + blurred.shape[1]], axis=1))
    lost = numpy.maximum(0, own - numpy.abs(numpy.diff(blurred, axis=1)))
    total = own.sum()
    return 0.0 if total < _FLAT / 10 * own.size else float(1 - lost.sum() / total)


def _cosines() -> Array:
    """The matrix of the discrete cosine transform (type II), [32, 32]."""
    rows, columns = numpy.mgrid[0:_SIDE, 0:_SIDE]
    return numpy.cos(numpy.pi * rows * (2 * columns + 1) / (2 * _SIDE))
