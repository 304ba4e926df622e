"""Aspect buckets."""

from __future__ import annotations

import math
import random

import pytest

from toolkit.data.buckets import Fit, fit_to_bucket, fit_to_square

_RANDOM = random.Random(0)
CASES = [
    (
        round(math.exp(_RANDOM.uniform(math.log(1), math.log(6000)))),
        round(math.exp(_RANDOM.uniform(math.log(1), math.log(6000)))),
        _RANDOM.choice([128, 512, 520, 768, 1000, 1024, 2048]),
        _RANDOM.choice([8, 16, 32, 64]),
    )
    for _ in range(3000)
]


def fits() -> list[tuple[Fit, int, int]]:
    return [(fit_to_bucket(w, h, resolution=r, divisor=d), r, d) for w, h, r, d in CASES]


def test_both_sides_divide_by_the_models_divisor() -> None:
    assert all(side % divisor == 0 and side > 0 for fit, _, divisor in fits() for side in fit.bucket)


def test_no_bucket_has_more_pixels_than_the_budget() -> None:
    assert all(fit.bucket[0] * fit.bucket[1] <= resolution**2 for fit, resolution, _ in fits())


def test_an_image_is_never_scaled_up_unless_it_is_smaller_than_one_cell() -> None:
    for fit, _, divisor in fits():
        if fit.is_enlarged:
            assert min(fit.source) < divisor
        elif min(fit.source) >= divisor:
            assert fit.resized[0] <= fit.source[0] and fit.resized[1] <= fit.source[1]


def test_the_resized_image_covers_the_bucket_and_the_crop_lies_within() -> None:
    for fit, _, _ in fits():
        left, top, right, bottom = fit.crop_box
        assert min(left, top) >= 0 and right <= fit.resized[0] and bottom <= fit.resized[1]
        assert (right - left, bottom - top) == fit.bucket
        assert fit.resized[0] == fit.bucket[0] or fit.resized[1] == fit.bucket[1]


def test_resizing_does_not_stretch() -> None:
    for fit, _, _ in fits():
        across, down = fit.resized[0] / fit.source[0], fit.resized[1] / fit.source[1]
        assert abs(across - down) <= max(0.51 / fit.source[0], 0.51 / fit.source[1]) + 1e-9


def test_the_crop_loses_no_more_than_one_cell_of_the_longer_cut() -> None:
    for fit, resolution, divisor in fits():
        if max(fit.source) / min(fit.source) > (resolution / divisor) ** 2:
            continue  # longer than any size of one cell's height within the budget
        assert fit.kept_share >= 1 - divisor / (min(fit.bucket) + divisor) - 0.01


def test_most_of_the_budget_is_used_where_the_image_has_it() -> None:
    for fit, resolution, divisor in fits():
        target = min(resolution**2, fit.source[0] * fit.source[1])
        cells = [side / divisor for side in fit.bucket]
        assert fit.bucket[0] * fit.bucket[1] >= 0.99 * target * math.prod(n / (n + 1) for n in cells)


@pytest.mark.parametrize(
    ("size", "resolution", "divisor", "bucket"),
    [
        ((512, 512), 512, 16, (512, 512)),
        ((4000, 3000), 1024, 16, (1168, 880)),
        ((3000, 4000), 1024, 16, (880, 1168)),
        ((1920, 1080), 1024, 16, (1360, 768)),
        ((500, 300), 1024, 16, (496, 288)),  # smaller than the budget: its own size, down to whole cells
        ((16, 16), 512, 16, (16, 16)),
        ((10, 10), 512, 16, (16, 16)),
        ((10, 100), 512, 16, (16, 160)),
        ((1, 100_000), 64, 16, (16, 256)),
        ((1000, 1000), 520, 16, (512, 512)),
    ],
)
def test_known_buckets(size: tuple[int, int], resolution: int, divisor: int, bucket: tuple[int, int]) -> None:
    assert fit_to_bucket(*size, resolution=resolution, divisor=divisor).bucket == bucket


def test_turning_an_image_turns_its_bucket() -> None:
    for w, h, r, d in CASES[:500]:
        assert (
            fit_to_bucket(w, h, resolution=r, divisor=d).bucket
            == fit_to_bucket(h, w, resolution=r, divisor=d).bucket[::-1]
        )


def test_a_crop_can_be_moved_from_edge_to_edge() -> None:
    fit = fit_to_bucket(100, 64, resolution=64, divisor=16)
    assert (fit.resized, fit.bucket) == ((80, 51), (80, 48))
    assert fit.cropped_at(0, 0).crop == (0, 0)
    assert fit.cropped_at(1, 1).crop == (0, 3)
    assert fit.cropped_at(0.5, 0.5) == fit


def test_a_square_crop_is_the_largest_square_that_the_image_and_the_resolution_allow() -> None:
    for width, height, resolution, divisor in CASES:
        fit = fit_to_square(width, height, resolution=resolution, divisor=divisor)
        side = max(divisor, min(width, height, resolution) // divisor * divisor)
        assert fit.bucket == (side, side) and all(a >= b for a, b in zip(fit.resized, fit.bucket, strict=True))


def test_a_fit_grows_from_the_smallest_that_covers_the_bucket_to_the_images_own_size() -> None:
    fit = fit_to_bucket(1600, 800, resolution=512, divisor=16)
    assert fit.enlarged_by(0) == fit and fit.enlarged_by(1).resized == (1600, 800)
    middle = fit.enlarged_by(0.5)
    assert middle.bucket == fit.bucket and abs(middle.resized[0] - (1600 + fit.resized[0]) / 2) <= 1
    small = fit_to_bucket(96, 96, resolution=512, divisor=16)
    assert small.enlarged_by(1) == small
