"""What a file says of its colours, read without its pixels.

Order of what counts, as in the PNG specification, third edition: cICP, ICC profile, sRGB, gAMA with cHRM; then the Exif
mark of Adobe RGB. A file that says nothing is sRGB.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import struct

from PIL import ExifTags, Image, ImageChops, ImageCms

ICC_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
# Colour space of a profile -> pillow's mode of the pixels that it is for.
_ICC_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# Colours move by less than this (of 255) under a profile that is sRGB by another name.
_SAME = 2

Chromaticities = tuple[float, ...]  # x and y of white, red, green, blue
D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_DISPLAY_P3: Chromaticities = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_ADOBE: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256
# Code points of ITU-T H.273, as cICP and AVIF's nclx boxes have them.
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    2: SRGB,  # unspecified
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: _DISPLAY_P3,
}
SRGB_CURVE = -1.0  # instead of an exponent
# Video's own curves (1, 6, 14, 15) are shown like sRGB's by every viewer of pictures.
_CURVES = dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE) | {4: 2.2, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}


class ColorError(ValueError):
    """What a file says of its colours cannot be honoured; the text is the reason and does not name the file."""


def check_color(image: Image.Image, data: bytes) -> None:
    """Find out without the pixels whether `to_srgb` can do its work.

    Args:
        image: as opened; its pixels need not be there.
        data: the bytes of the file.

    Raises:
        ColorError: it cannot.
    """
    if code_points(data) is None and (profile := image.info.get("icc_profile")):
        mode = profile_mode(profile)
        if mode != _kind_of(image.mode) and not (mode == "RGB" and _kind_of(image.mode) == "L"):
            raise ColorError(icc_text(f"it is for {mode} pictures, and this is one in {image.mode}"))
        profile_transform(profile, mode)
    else:
        named_colors(image, data)


def profile_mode(profile: bytes) -> str:
    """The mode of the pixels that an ICC profile is for: RGB, L or CMYK.

    Raises:
        ColorError: it is for others.
    """
    space = profile[16:20].decode("latin-1")
    if space not in _ICC_MODES:
        raise ColorError(icc_text(f"it is for {space.strip()!a} and not for RGB, grey or CMYK"))
    return _ICC_MODES[space]


def _kind_of(mode: str) -> str:
    """Which kind of profile a picture of this mode may have. RGB profiles are also right for grey values."""
    return mode if mode == "CMYK" else "L" if mode.startswith(("1", "L", "I;16")) else "RGB"


@functools.lru_cache(maxsize=64)
def profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if it is sRGB already.

    Raises:
        ColorError: the profile is damaged.
    """
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ours = ImageCms.createProfile("sRGB")
        # One picture may be converted in several threads: a transform with a cache of its own is not made for that.
        transform = ImageCms.buildTransform(theirs, ours, mode, "RGB", flags=ImageCms.Flags.NOCACHE)
        if mode == "CMYK":
            return transform
        colors = _some_colors(mode)
        converted = ImageCms.applyTransform(colors, transform)
    except ICC_ERRORS as error:
        raise ColorError(icc_text(error)) from error
    assert converted is not None, "only a conversion in place gives nothing back"
    return None if max(ImageChops.difference(converted, colors.convert("RGB")).tobytes()) <= _SAME else transform


def _some_colors(mode: str) -> Image.Image:
    """Greys, or a coarse grid of colours."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = [255 * step // 8 for step in range(9)]
    return Image.frombytes("RGB", (27, 27), bytes(itertools.chain(*itertools.product(levels, repeat=3))))


def icc_text(reason: object) -> str:
    """What to say of a profile that cannot be used."""
    return f"its colour profile cannot be used ({reason}). Save the picture in sRGB"


def named_colors(image: Image.Image, data: bytes) -> tuple[Chromaticities, float] | None:
    """Chromaticities and exponent of the curve where a file names them without a profile; None for sRGB.

    Raises:
        ColorError: they are not known here, or the picture is high dynamic range.
    """
    points = code_points(data)
    if points is not None:
        primaries, curve = points
        if curve in _HDR:
            raise ColorError(f"it is a high dynamic range picture ({_HDR[curve]}). Save it in sRGB")
        if primaries not in _PRIMARIES or curve not in _CURVES:
            raise ColorError(f"it names colours that are not known here ({primaries}, {curve}). Save it in sRGB")
        found = _PRIMARIES[primaries], _CURVES[curve]
        return None if found == (SRGB, SRGB_CURVE) else found
    if "srgb" in image.info:
        return None
    if "gamma" in image.info:
        gamma = float(image.info["gamma"])
        white_and_primaries = tuple(map(float, image.info.get("chromaticity", SRGB)))
        is_srgb_curve = abs(gamma - 1 / 2.2) < 0.002  # what writers of sRGB say
        is_srgb = all(
            math.isclose(one, other, abs_tol=0.002) for one, other in zip(white_and_primaries, SRGB, strict=True)
        )
        if not 0.05 < gamma < 5 or (is_srgb and is_srgb_curve):
            return None
        return white_and_primaries, SRGB_CURVE if is_srgb_curve else 1 / gamma
    return (_ADOBE, _ADOBE_GAMMA) if _is_marked_adobe(image) else None


def _is_marked_adobe(image: Image.Image) -> bool:
    """How cameras mark Adobe RGB, often without a profile: DCF 2.0."""
    try:
        mark = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1, "")
    except (SyntaxError, ValueError, TypeError, OSError, KeyError, struct.error):  # Exif data of nonsense says nothing
        return False
    return str(mark).strip("\0 ") == "R03"


def code_points(data: bytes) -> tuple[int, int] | None:
    """Primaries and curve of a PNG's cICP chunk or an AVIF's nclx box, which pillow does not read."""
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
