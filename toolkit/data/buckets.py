"""Aspect-ratio buckets: the size at which each image is trained, and how it is resized and cropped to that size."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace

Size = tuple[int, int]
DIVISOR_PX = 16  # of FLUX's models, for folders that no job names


@dataclass(frozen=True)
class Fit:
    """How an image is fitted to a bucket: resized to cover it, then cropped. All sizes are (width, height) in pixels.

    Attributes:
        source: size of the upright image.
        resized: size after resizing; at least `bucket` on both sides.
        crop: (left, top) corner of the bucket within `resized`.
        bucket: size that is trained on; both sides are multiples of the model's divisor.
    """

    source: Size
    resized: Size
    crop: tuple[int, int]
    bucket: Size

    @property
    def crop_box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the crop within `resized`."""
        left, top = self.crop
        return left, top, left + self.bucket[0], top + self.bucket[1]

    @property
    def crop_shares(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the crop as shares of the image's width and height, 0..1."""
        left, top, right, bottom = self.crop_box
        width, height = self.resized
        return left / width, top / height, right / width, bottom / height

    @property
    def is_enlarged(self) -> bool:
        """Whether the image was smaller than one cell of the model and had to be scaled up."""
        return self.resized[0] > self.source[0] or self.resized[1] > self.source[1]

    @property
    def kept_share(self) -> float:
        """Share of the image's area that the crop keeps, above 0, at most 1."""
        return (self.bucket[0] * self.bucket[1]) / (self.resized[0] * self.resized[1])

    def cropped_at(self, across: float, down: float) -> Fit:
        """The same fit with its crop moved: 0 is the left or top edge, 1 the right or bottom edge, 0.5 the centre."""
        left = round((self.resized[0] - self.bucket[0]) * across)
        top = round((self.resized[1] - self.bucket[1]) * down)
        return replace(self, crop=(left, top))

    def enlarged_by(self, share: float) -> Fit:
        """The same bucket out of a larger picture: 0 is the smallest that covers the bucket, 1 the image's own size."""
        most = max(1.0, self.source[0] / self.resized[0])
        factor = 1 + share * (most - 1)
        wide, high = (round(side * factor) for side in self.resized)
        return replace(self, resized=(max(self.bucket[0], wide), max(self.bucket[1], high)))


@functools.lru_cache(maxsize=4096)  # most pictures of a dataset have one of a few sizes
def fit_to_bucket(width: int, height: int, *, resolution: int, divisor: int) -> Fit:
    """The bucket of an image: at most `resolution`² pixels, never larger than the image, close to its aspect ratio.

    An image that is narrower or lower than one cell of the model is scaled up to that cell, but no further.

    Args:
        width, height: size of the upright image, at least 1 px each.
        resolution: side of a square with as many pixels as a bucket may have; at least `divisor`.
        divisor: both sides of every bucket are multiples of this.

    Returns:
        The fit with a centred crop.
    """
    assert width >= 1 and height >= 1 and resolution >= divisor, (width, height, resolution, divisor)
    budget = resolution * resolution
    scale = min(1.0, math.sqrt(budget / (width * height)))
    scale = max(scale, divisor / min(width, height))  # one cell is the smallest image a model can handle
    bucket = min(
        _candidates(width, height, scale, budget=budget, divisor=divisor),
        key=lambda size: (round(_aspect_error(size, (width, height)), 9), -size[0] * size[1]),
    )
    return fit_to_size((width, height), bucket)


def fit_to_square(width: int, height: int, *, resolution: int, divisor: int) -> Fit:
    """The largest square bucket within an image, of at most `resolution` pixels a side; arguments as above."""
    side = max(divisor, min(resolution, width, height) // divisor * divisor)
    return fit_to_size((width, height), (side, side))


def fit_to_size(source: Size, bucket: Size) -> Fit:
    """An image resized to cover a bucket, whatever its aspect ratio, with a centred crop."""
    cover = max(bucket[0] / source[0], bucket[1] / source[1])
    resized = (max(bucket[0], round(source[0] * cover)), max(bucket[1], round(source[1] * cover)))
    return Fit(source=source, resized=resized, crop=(0, 0), bucket=bucket).cropped_at(0.5, 0.5)


def _candidates(width: int, height: int, scale: float, *, budget: int, divisor: int) -> list[Size]:
    """The sizes closest to the scaled image that are within the budget and do not enlarge it; never empty."""
    longest = budget // divisor // divisor * divisor  # longest side of an image that is one cell wide
    sides: list[set[int]] = []
    for length in (width, height):
        ideal = min(length * scale, float(longest))
        # A side of exactly 512 may be computed as 511.9999 or 512.0001: without 1e-6 it would lose or gain a cell.
        floor = max(divisor, math.floor(ideal / divisor + 1e-6) * divisor)
        ceiling = max(divisor, math.ceil(ideal / divisor - 1e-6) * divisor)
        most = max(length, floor)  # rounding up beyond the image would enlarge it
        sides.append({floor, min(ceiling, most // divisor * divisor)})
    return [(wide, high) for wide, high in itertools.product(*sides) if wide * high <= budget]


def _aspect_error(size: Size, source: Size) -> float:
    """Distance between the aspect ratios of bucket and image: 0 if equal, symmetric in too wide and too high."""
    return abs(math.log((size[0] * source[1]) / (size[1] * source[0])))
