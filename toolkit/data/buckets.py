"""Aspect buckets: the size each image is trained at, and how it is resized and cropped to get there."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """How one image becomes a bucket: resized to cover it, then cropped. All sizes are (width, height) in pixels.

    Attributes:
        source: the image, upright.
        resized: the image after resizing; at least `bucket` on both sides.
        crop: (left, top) corner of the bucket within `resized`.
        bucket: what is trained on; both sides divide by the model's divisor.
    """

    source: Size
    resized: Size
    crop: tuple[int, int]
    bucket: Size

    @property
    def crop_box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) within `resized`."""
        left, top = self.crop
        return left, top, left + self.bucket[0], top + self.bucket[1]

    @property
    def is_enlarged(self) -> bool:
        """True when the image was too small for one cell of the model and had to be scaled up."""
        return self.resized[0] > self.source[0] or self.resized[1] > self.source[1]

    @property
    def kept_share(self) -> float:
        """Share of the image that the crop keeps, above 0 to 1."""
        return (self.bucket[0] * self.bucket[1]) / (self.resized[0] * self.resized[1])

    def cropped_at(self, across: float, down: float) -> Fit:
        """The same fit with its crop moved: 0 is the left or upper edge, 1 the right or lower, 0.5 the middle."""
        left = round((self.resized[0] - self.bucket[0]) * across)
        top = round((self.resized[1] - self.bucket[1]) * down)
        return replace(self, crop=(left, top))


def fit_to_bucket(width: int, height: int, *, resolution: int, divisor: int) -> Fit:
    """The bucket of an image: at most `resolution`² pixels, never larger than the image, of nearly its aspect.

    An image that is narrower or lower than one cell of the model is scaled up to that cell, and no further.

    Args:
        width, height: the upright image, at least 1 px each.
        resolution: side of the square that has the pixel budget; at least `divisor`.
        divisor: both sides of every bucket divide by this.

    Returns:
        The fit with a centred crop.
    """
    assert width >= 1 and height >= 1 and resolution >= divisor, (width, height, resolution, divisor)
    budget = resolution * resolution
    scale = min(1.0, math.sqrt(budget / (width * height)))
    scale = max(scale, divisor / min(width, height))  # one cell is the least a model can draw
    bucket = min(
        _candidates(width, height, scale, budget=budget, divisor=divisor),
        key=lambda size: (round(_aspect_error(size, (width, height)), 9), -size[0] * size[1]),
    )
    cover = max(bucket[0] / width, bucket[1] / height)
    resized = (max(bucket[0], round(width * cover)), max(bucket[1], round(height * cover)))
    return Fit(source=(width, height), resized=resized, crop=(0, 0), bucket=bucket).cropped_at(0.5, 0.5)


def _candidates(width: int, height: int, scale: float, *, budget: int, divisor: int) -> list[Size]:
    """The sizes around the scaled image that are within the budget and do not enlarge it; never empty."""
    longest = budget // divisor // divisor * divisor  # beside a side of one cell, the other may be this long
    sides: list[set[int]] = []
    for length in (width, height):
        ideal = min(length * scale, float(longest))
        # A whole side may come out as 511.9999 or 512.0001: without the nudge it would lose or gain a cell.
        floor = max(divisor, math.floor(ideal / divisor + 1e-6) * divisor)
        ceiling = max(divisor, math.ceil(ideal / divisor - 1e-6) * divisor)
        most = max(length, floor)  # a ceiling beyond the image would enlarge it
        sides.append({floor, min(ceiling, most // divisor * divisor)})
    return [(wide, high) for wide, high in itertools.product(*sides) if wide * high <= budget]


def _aspect_error(size: Size, source: Size) -> float:
    """How far a bucket's aspect is from the image's: 0 is equal, the same for too wide as for too high."""
    return abs(math.log((size[0] * source[1]) / (size[1] * source[0])))
