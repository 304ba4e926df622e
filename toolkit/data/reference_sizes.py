"""The size at which the model sees a reference image: its own aspect ratio, within the model's limits."""

from __future__ import annotations

import math

from toolkit.cards import ReferenceLimits
from toolkit.data.buckets import Fit, Size


def fit_reference(
    source: Size, *, limits: ReferenceLimits, divisor: int, num_references: int, target: Size | None = None
) -> Fit:
    """How a reference image is resized and cropped for the model.

    As in Black Forest Labs' reference code, images above the allowed area are scaled down (a single reference may be
    larger than one of several), none is scaled up, and the centre is cropped to whole cells.

    Args:
        source: (width, height) of the upright image, within `limits` (see `reference_problem`).
        limits: the model's limits on references.
        divisor: sides become multiples of this.
        num_references: number of references that the example has.
        target: if given, scale up or down to as many pixels as this (width, height), but not above the limits.
    """
    width, height = source
    most_px = limits.max_area_px if num_references == 1 else limits.max_area_each_px
    if target is not None:
        scale = math.sqrt(min(target[0] * target[1], most_px) / (width * height))
        bucket = (_nearest(width * scale, divisor), _nearest(height * scale, divisor))
        cover = max(bucket[0] / width, bucket[1] / height)
        resized = (max(bucket[0], round(width * cover)), max(bucket[1], round(height * cover)))
    else:
        scale = min(1.0, math.sqrt(most_px / (width * height)))
        resized = source if scale == 1 else (int(width * scale), int(height * scale))
        bucket = (resized[0] // divisor * divisor, resized[1] // divisor * divisor)
    corner = ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)
    return Fit(source=source, resized=resized, crop=corner, bucket=bucket)


def reference_problem(source: Size, limits: ReferenceLimits) -> str | None:
    """Why an image of this size cannot be a reference; None if it can."""
    width, height = source
    if min(source) < limits.min_side_px:
        return f"{width} x {height}: a reference image needs at least {limits.min_side_px} pixels on each side"
    if max(source) > limits.max_aspect * min(source):
        return f"{width} x {height}: a reference image may be at most {limits.max_aspect:g} times as long as it is wide"
    return None


def _nearest(length: float, divisor: int) -> int:
    return max(divisor, round(length / divisor) * divisor)
