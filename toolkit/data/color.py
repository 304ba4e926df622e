"""Converts images from the colour space that their file declares to sRGB, on which models are trained.

The first declaration in this order counts, as in the PNG specification, third edition: cICP, ICC profile, sRGB, gAMA
with cHRM; then the Exif mark of Adobe RGB. A file without any declaration is sRGB.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

_ICC_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
# Colour space of a profile -> pillow's mode of the pixels to which it applies.
_ICC_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# A profile counts as sRGB if it changes no colour by more than this (of 255).
_SAME = 2

Chromaticities = tuple[float, ...]  # x and y of white, red, green, blue
_D65 = (0.3127, 0.3290)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_DISPLAY_P3: Chromaticities = (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_ADOBE: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256
# Code points of ITU-T H.273, as used by cICP and AVIF's nclx boxes.
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    2: _SRGB,  # unspecified
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: _DISPLAY_P3,
}
_SRGB_CURVE = -1.0  # stands for the sRGB curve instead of an exponent
# Every image viewer treats the curves of video (1, 6, 14, 15) like that of sRGB.
_CURVES = dict.fromkeys((1, 2, 6, 13, 14, 15), _SRGB_CURVE) | {4: 2.2, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}


class ColorError(ValueError):
    """A file's colour space is not supported; the message gives the reason but does not name the file."""


def check_color(image: Image.Image, data: bytes) -> None:
    """Check, without the pixels, that `to_srgb` can convert an image.

    Args:
        image: the opened image; its pixels need not be loaded.
        data: the bytes of the file.

    Raises:
        ColorError: the image cannot be converted.
    """
    if _code_points(data) is None and (profile := image.info.get("icc_profile")):
        mode = _mode_of(profile)
        if mode != _kind_of(image.mode) and not (mode == "RGB" and _kind_of(image.mode) == "L"):
            raise ColorError(_icc_text(f"it is for {mode} images, but this image is {image.mode}"))
        _transform(profile, mode)
    else:
        _named_colors(image, data)


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
    if _code_points(data) is None and (profile := image.info.get("icc_profile")):
        mode = _mode_of(profile)
        transform = _transform(profile, mode)
        if transform is None:
            return image
        try:
            converted = ImageCms.applyTransform(image if image.mode == mode else image.convert(mode), transform)
        except _ICC_ERRORS as error:
            raise ColorError(_icc_text(error)) from error
        assert converted is not None, "only an in-place conversion returns None"
        return converted
    found = _named_colors(image, data)
    if found is None or image.mode == "CMYK":
        return image
    return _from_chromaticities(image.convert("RGB"), *found)


def _mode_of(profile: bytes) -> str:
    space = profile[16:20].decode("latin-1")
    if space not in _ICC_MODES:
        raise ColorError(_icc_text(f"it is for {space.strip()!a}, not for RGB, grey or CMYK"))
    return _ICC_MODES[space]


def _kind_of(mode: str) -> str:
    """The kind of profile that an image of this mode may have. RGB profiles are also valid for grey images."""
    return mode if mode == "CMYK" else "L" if mode.startswith(("1", "L", "I;16")) else "RGB"


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if the profile is sRGB already."""
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ours = ImageCms.createProfile("sRGB")
        # Several threads may use the transform at once, which a transform with a cache does not support.
        transform = ImageCms.buildTransform(theirs, ours, mode, "RGB", flags=ImageCms.Flags.NOCACHE)
        if mode == "CMYK":
            return transform
        colors = _sample_colors(mode)
        converted = numpy.asarray(ImageCms.applyTransform(colors, transform)).astype(int)
    except _ICC_ERRORS as error:
        raise ColorError(_icc_text(error)) from error
    plain = numpy.asarray(colors.convert("RGB")).astype(int)
    return None if abs(converted - plain).max() <= _SAME else transform


def _sample_colors(mode: str) -> Image.Image:
    """An image with all greys, or with a coarse grid of colours."""
    if mode == "L":
        return Image.fromarray(numpy.arange(256, dtype=numpy.uint8)[None])
    steps = numpy.linspace(0, 255, 9).astype(numpy.uint8)
    grid = numpy.stack(numpy.meshgrid(steps, steps, steps), axis=-1)  # [9, 9, 9, 3]
    return Image.fromarray(grid.reshape(27, 27, 3))


def _icc_text(reason: object) -> str:
    return f"its colour profile cannot be used ({reason}). Save the image in sRGB"


def _named_colors(image: Image.Image, data: bytes) -> tuple[Chromaticities, float] | None:
    """Chromaticities and curve exponent that a file declares; None for sRGB."""
    points = _code_points(data)
    if points is not None:
        primaries, curve = points
        if curve in _HDR:
            raise ColorError(f"it is a high dynamic range image ({_HDR[curve]}). Save it in sRGB")
        if primaries not in _PRIMARIES or curve not in _CURVES:
            raise ColorError(f"its colour space is not supported ({primaries}, {curve}). Save it in sRGB")
        found = _PRIMARIES[primaries], _CURVES[curve]
        return None if found == (_SRGB, _SRGB_CURVE) else found
    if "srgb" in image.info:
        return None
    if "gamma" in image.info:
        gamma = float(image.info["gamma"])
        white_and_primaries = tuple(map(float, image.info.get("chromaticity", _SRGB)))
        is_srgb_curve = abs(gamma - 1 / 2.2) < 0.002  # the value that programs write for sRGB
        is_srgb = numpy.allclose(white_and_primaries, _SRGB, atol=0.002)
        if not 0.05 < gamma < 5 or (is_srgb and is_srgb_curve):
            return None
        return white_and_primaries, _SRGB_CURVE if is_srgb_curve else 1 / gamma
    return (_ADOBE, _ADOBE_GAMMA) if _is_marked_adobe(image) else None


def _is_marked_adobe(image: Image.Image) -> bool:
    """Whether Exif data marks the image as Adobe RGB, as cameras do, often without a profile (DCF 2.0)."""
    try:
        mark = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1, "")
    except (SyntaxError, ValueError, TypeError, OSError, KeyError, struct.error):  # damaged Exif data is ignored
        return False
    return str(mark).strip("\0 ") == "R03"


def _code_points(data: bytes) -> tuple[int, int] | None:
    """Primaries and curve from a PNG's cICP chunk or an AVIF's nclx box, which pillow does not read."""
    if data.startswith(b"\x89PNG"):
        at = 8
        while at + 12 <= len(data):
            (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
            if kind == b"cICP" and length >= 2:
                return data[at + 8], data[at + 9]
            if kind in (b"IDAT", b"IEND"):
                return None
            at += 12 + length
    elif data[4:12] in (b"ftypavif", b"ftypavis"):
        at = data.find(b"colrnclx", 0, 1 << 16)
        if at >= 0 and at + 12 <= len(data):
            primaries, curve = struct.unpack(">HH", data[at + 8 : at + 12])
            return primaries, curve
    return None


def _from_chromaticities(image: Image.Image, chromaticities: Chromaticities, exponent: float) -> Image.Image:
    levels = numpy.arange(256) / 255
    linear = _srgb_to_linear(levels) if exponent == _SRGB_CURVE else levels**exponent
    matrix = numpy.linalg.inv(_to_xyz(_SRGB)) @ _to_xyz(chromaticities)
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
    d65 = numpy.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    adapted: NDArray[numpy.float64] = (
        numpy.linalg.inv(cones) @ numpy.diag((cones @ d65) / (cones @ white)) @ cones @ matrix
    )
    return adapted
