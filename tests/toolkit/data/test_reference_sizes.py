"""The size of reference images, held against diffusers' image processor and the limits of the reference code."""

from __future__ import annotations

import pytest
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image

from toolkit.cards import ReferenceLimits
from toolkit.data.buckets import Fit, Size
from toolkit.data.references import fit_reference, reference_problem

LIMITS = ReferenceLimits()


def fit(size: Size, *, num_references: int = 1, target: Size | None = None) -> Fit:
    return fit_reference(size, limits=LIMITS, divisor=16, num_references=num_references, target=target)


@pytest.mark.parametrize("size", [(64, 64), (100, 77), (1500, 1100), (3000, 400), (65, 500), (1023, 1025)])
def test_each_of_several_references_has_the_size_that_diffusers_gives_it(size: Size) -> None:
    image = Image.new("RGB", size)
    if size[0] * size[1] > 1024**2:
        image = Flux2ImageProcessor._resize_to_target_area(image, 1024**2)
    cut = (image.width // 16 * 16, image.height // 16 * 16)
    one = fit(size, num_references=2)
    assert (one.resized, one.bucket) == (image.size, cut)
    assert one.crop == ((image.width - cut[0]) // 2, (image.height - cut[1]) // 2)


def test_a_single_reference_may_be_larger_than_each_of_several() -> None:
    assert fit((2024, 2024)).bucket == (2016, 2016)
    assert fit((4000, 4000)).resized == (2024, 2024)
    assert fit((4000, 4000), num_references=2).resized == (1024, 1024)


def test_nothing_is_scaled_up() -> None:
    assert fit((80, 64)).resized == (80, 64)


@pytest.mark.parametrize("size", [(400, 300), (2000, 1500), (64, 512), (200, 201)])
def test_a_matched_reference_has_the_targets_pixels_and_its_own_shape(size: Size) -> None:
    one = fit(size, target=(512, 512))
    width, height = one.bucket
    assert width % 16 == height % 16 == 0
    assert width * height == pytest.approx(512**2, rel=0.1)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.1)
    assert one.resized[0] >= width and one.resized[1] >= height


def test_a_matched_reference_stays_within_the_limits() -> None:
    assert fit((100, 100), num_references=3, target=(2048, 2048)).bucket == (1024, 1024)


def test_too_small_and_too_long_images_are_explained() -> None:
    assert reference_problem((64, 512), LIMITS) is None
    assert "63 x 64" in str(reference_problem((63, 64), LIMITS))
    assert "8 times" in str(reference_problem((64, 513), LIMITS))
