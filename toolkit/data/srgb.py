"""Converts images to sRGB, on which models are trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageCms

from toolkit.data.color import (
    D65,
    ICC_ERRORS,
    SRGB,
    SRGB_CURVE,
    Chromaticities,
    ColorError,
    code_points,
    icc_text,
    named_colors,
    profile_mode,
    profile_transform,
)


def to_srgb(image: Image.Image, data: bytes) -> Image.Image:
    """Convert an image to sRGB.

    Args:
        image: an image of mode L, RGB or CMYK, without transparency.
        data: the bytes of the image's file.

    Returns:
        The image itself if its colours already are sRGB, else a converted RGB image.

    Raises:
        ColorError: the profile is damaged, or the image has a high dynamic range.
    """
    if code_points(data) is None and (profile := image.info.get("icc_profile")):
        mode = profile_mode(profile)
        transform = profile_transform(profile, mode)
        if transform is None:
            return image
        try:
            converted = ImageCms.applyTransform(image if image.mode == mode else image.convert(mode), transform)
        except ICC_ERRORS as error:
            raise ColorError(icc_text(error)) from error
        assert converted is not None, "only an in-place conversion returns None"
        return converted
    found = named_colors(image, data)
    if found is None or image.mode == "CMYK":
        return image
    return _from_chromaticities(image.convert("RGB"), *found)


def _from_chromaticities(image: Image.Image, chromaticities: Chromaticities, exponent: float) -> Image.Image:
    levels = numpy.arange(256) / 255
    linear = _srgb_to_linear(levels) if exponent == SRGB_CURVE else levels**exponent
    matrix = numpy.linalg.inv(_to_xyz(SRGB)) @ _to_xyz(chromaticities)
    values = linear[numpy.asarray(image)].astype(numpy.float32) @ matrix.T.astype(numpy.float32)  # [H, W, 3]
    values = values.clip(0, 1)
    encoded = numpy.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    return Image.fromarray((encoded * 255 + 0.5).astype(numpy.uint8))


def _srgb_to_linear(values: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """The curve of IEC 61966-2-1."""
    return numpy.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_xyz(chromaticities: Sequence[float]) -> NDArray[numpy.float64]:
    """Matrix from linear RGB to XYZ, with the white point adapted to D65 by the Bradford transform."""
    pairs = zip(chromaticities[::2], chromaticities[1::2], strict=True)
    white, *primaries = [numpy.array([x / y, 1, (1 - x - y) / y]) for x, y in pairs]
    columns = numpy.stack(primaries, axis=1)
    matrix = columns * numpy.linalg.solve(columns, white)
    cones = numpy.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d65 = numpy.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    adapted: NDArray[numpy.float64] = (
        numpy.linalg.inv(cones) @ numpy.diag((cones @ d65) / (cones @ white)) @ cones @ matrix
    )
    return adapted
