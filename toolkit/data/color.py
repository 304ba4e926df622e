"""Reads the colour space that an image file declares, without decoding its pixels.

The first declaration in this order counts, as in the PNG specification, third edition: cICP, ICC profile, sRGB, gAMA
with cHRM; then the Exif mark of Adobe RGB. A file without any declaration is sRGB.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import struct

from PIL import ExifTags, Image, ImageChops, ImageCms

ICC_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
# Colour space of a profile -> pillow's mode of the pixels to which it applies.
_ICC_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# A profile counts as sRGB if it changes no colour by more than this (of 255).
_SAME = 2

Chromaticities = tuple[float, ...]  # x and y of white, red, green, blue
D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_DISPLAY_P3: Chromaticities = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_ADOBE: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256
# Code points of ITU-T H.273, as used by cICP and AVIF's nclx boxes.
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    2: SRGB,  # unspecified
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: _DISPLAY_P3,
}
SRGB_CURVE = -1.0  # stands for the sRGB curve instead of an exponent
# Every image viewer treats the curves of video (1, 6, 14, 15) like that of sRGB.
_CURVES = dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE) | {4: 2.2, 8: 1.0}
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
    if code_points(data) is None and (profile := image.info.get("icc_profile")):
        mode = profile_mode(profile)
        if mode != _kind_of(image.mode) and not (mode == "RGB" and _kind_of(image.mode) == "L"):
            raise ColorError(icc_text(f"it is for {mode} images, but this image is {image.mode}"))
        profile_transform(profile, mode)
    else:
        named_colors(image, data)


def profile_mode(profile: bytes) -> str:
    """The mode of the pixels to which an ICC profile applies: RGB, L or CMYK.

    Raises:
        ColorError: the profile is for another colour space.
    """
    space = profile[16:20].decode("latin-1")
    if space not in _ICC_MODES:
        raise ColorError(icc_text(f"it is for {space.strip()!a}, not for RGB, grey or CMYK"))
    return _ICC_MODES[space]


def _kind_of(mode: str) -> str:
    """The kind of profile that an image of this mode may have. RGB profiles are also valid for grey images."""
    return mode if mode == "CMYK" else "L" if mode.startswith(("1", "L", "I;16")) else "RGB"


@functools.lru_cache(maxsize=64)
def profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if the profile is sRGB already.

    Raises:
        ColorError: the profile is damaged.
    """
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ours = ImageCms.createProfile("sRGB")
        # Several threads may use the transform at once, which a transform with a cache does not support.
        transform = ImageCms.buildTransform(theirs, ours, mode, "RGB", flags=ImageCms.Flags.NOCACHE)
        if mode == "CMYK":
            return transform
        colors = _sample_colors(mode)
        converted = ImageCms.applyTransform(colors, transform)
    except ICC_ERRORS as error:
        raise ColorError(icc_text(error)) from error
    assert converted is not None, "only an in-place conversion returns None"
    return None if max(ImageChops.difference(converted, colors.convert("RGB")).tobytes()) <= _SAME else transform


def _sample_colors(mode: str) -> Image.Image:
    """An image with all greys, or with a coarse grid of colours."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = [255 * step // 8 for step in range(9)]
    return Image.frombytes("RGB", (27, 27), bytes(itertools.chain(*itertools.product(levels, repeat=3))))


def icc_text(reason: object) -> str:
    """The message for a profile that cannot be used."""
    return f"its colour profile cannot be used ({reason}). Save the image in sRGB"


def named_colors(image: Image.Image, data: bytes) -> tuple[Chromaticities, float] | None:
    """Chromaticities and curve exponent that a file declares without a profile; None for sRGB.

    Raises:
        ColorError: they are unknown, or the image has a high dynamic range.
    """
    points = code_points(data)
    if points is not None:
        primaries, curve = points
        if curve in _HDR:
            raise ColorError(f"it is a high dynamic range image ({_HDR[curve]}). Save it in sRGB")
        if primaries not in _PRIMARIES or curve not in _CURVES:
            raise ColorError(f"its colour space is not supported ({primaries}, {curve}). Save it in sRGB")
        found = _PRIMARIES[primaries], _CURVES[curve]
        return None if found == (SRGB, SRGB_CURVE) else found
    if "srgb" in image.info:
        return None
    if "gamma" in image.info:
        gamma = float(image.info["gamma"])
        white_and_primaries = tuple(map(float, image.info.get("chromaticity", SRGB)))
        is_srgb_curve = abs(gamma - 1 / 2.2) < 0.002  # the value that programs write for sRGB
        is_srgb = all(
            math.isclose(one, other, abs_tol=0.002) for one, other in zip(white_and_primaries, SRGB, strict=True)
        )
        if not 0.05 < gamma < 5 or (is_srgb and is_srgb_curve):
            return None
        return white_and_primaries, SRGB_CURVE if is_srgb_curve else 1 / gamma
    return (_ADOBE, _ADOBE_GAMMA) if _is_marked_adobe(image) else None


def _is_marked_adobe(image: Image.Image) -> bool:
    """Whether Exif data marks the image as Adobe RGB, as cameras do, often without a profile (DCF 2.0)."""
    try:
        mark = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1, "")
    except (SyntaxError, ValueError, TypeError, OSError, KeyError, struct.error):  # damaged Exif data is ignored
        return False
    return str(mark).strip("\0 ") == "R03"


def code_points(data: bytes) -> tuple[int, int] | None:
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
