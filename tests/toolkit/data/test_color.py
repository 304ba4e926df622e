"""What files say of their colours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from toolkit.data.buckets import fit_to_bucket
from toolkit.data.color import ColorError, check_color
from toolkit.data.examples import Reference
from toolkit.data.image_files import ImageError, inspect_image
from toolkit.data.images import load_image
from toolkit.data.srgb import to_srgb

COLOURS = ((200, 60, 50), (60, 160, 60), (40, 60, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0))
# Primaries adapted to D50, as profiles have them.
P3_COLUMNS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_COLUMNS = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB_COLUMNS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def profile(columns: tuple[tuple[float, ...], ...], gamma: float, space: bytes = b"RGB ") -> bytes:
    """A minimal matrix profile (ICC.1:2001), for RGB with three primaries or for grey with none."""

    def numbers(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [(b"wtpt", numbers(0.9642, 1.0, 0.8249))]
    for letter, column in zip("rgb", columns, strict=False):
        tags += [(f"{letter}XYZ".encode(), numbers(*column)), (f"{letter}TRC".encode(), curve)]
    tags += [] if columns else [(b"kTRC", curve)]
    tags += [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(79)), (b"cprt", b"text\0\0\0\0-\0")]
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags:
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1, 0.8249))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def patches(mode: str = "RGB") -> Image.Image:
    return (
        Image.fromarray(numpy.array([COLOURS], dtype=numpy.uint8))
        .resize((96, 16), Image.Resampling.NEAREST)
        .convert(mode)
    )


def trained_on(path: Path) -> list[tuple[int, ...]]:
    """The colours of the patches as training sees them."""
    info = inspect_image(path)
    fit = fit_to_bucket(96, 16, resolution=96, divisor=16)
    image = load_image(Reference(path, info.content_hash, fit, False, False, (0, 0, 0)), background=(0, 0, 0))
    return [image.getpixel((8 + 16 * number, 8)) for number in range(len(COLOURS))]  # type: ignore[misc]


def by_littlecms(icc: bytes) -> list[tuple[int, ...]]:
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = ImageCms.profileToProfile(patches(), theirs, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert image is not None
    return [image.getpixel((8 + 16 * number, 8)) for number in range(len(COLOURS))]  # type: ignore[misc]


def furthest(found: list[tuple[int, ...]], wanted: Any) -> int:
    return int(abs(numpy.array(found) - numpy.array(wanted)).max())


@pytest.mark.parametrize("columns", [P3_COLUMNS, SRGB_COLUMNS])
@pytest.mark.parametrize("gamma", [1.8, 2.2])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_picture_with_a_profile_is_converted_to_srgb(tmp_path: Path, columns: Any, gamma: float, suffix: str) -> None:
    icc = profile(columns, gamma)
    patches().save(tmp_path / f"a{suffix}", icc_profile=icc, lossless=True)
    assert furthest(trained_on(tmp_path / f"a{suffix}"), by_littlecms(icc)) <= 1
    assert furthest(by_littlecms(icc), COLOURS) > 4


def test_a_picture_whose_profile_is_srgb_is_left_as_it_is(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    patches().save(tmp_path / "a.png", icc_profile=icc)
    assert trained_on(tmp_path / "a.png") == list(COLOURS)


def test_transparency_stays_where_it_is_under_a_profile(tmp_path: Path) -> None:
    image = patches("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 16, 16))
    image.save(tmp_path / "a.png", icc_profile=profile(P3_COLUMNS, 2.2))
    found = trained_on(tmp_path / "a.png")
    assert found[0] == (0, 0, 0) and furthest(found[1:], by_littlecms(profile(P3_COLUMNS, 2.2))[1:]) <= 1


def test_a_grey_picture_may_have_a_grey_profile_or_one_of_colours(tmp_path: Path) -> None:
    for name, icc in {"grey": profile((), 1.0, b"GRAY"), "colours": profile(SRGB_COLUMNS, 1.0)}.items():
        patches("L").save(tmp_path / f"{name}.png", icc_profile=icc)
        grey = trained_on(tmp_path / f"{name}.png")[3]
        assert furthest([grey], (188, 188, 188)) <= 1  # 128 of 255 on a straight curve


def test_a_profile_that_is_damaged_or_of_another_kind_is_refused_before_training(tmp_path: Path) -> None:
    wrong = {"short": profile(P3_COLUMNS, 2.2)[:200], "grey": profile((), 2.2, b"GRAY"), "junk": b"\xff" * 500}
    for name, icc in wrong.items():
        patches().save(tmp_path / f"{name}.png", icc_profile=icc)
        with pytest.raises(ImageError, match="its colour profile cannot be used"):
            inspect_image(tmp_path / f"{name}.png")


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    content = io.BytesIO()
    patches().save(content, format="PNG")
    data = content.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:33] + extra + data[33:]


P3_CHUNK = struct.pack(">8I", *(round(v * 100000) for v in (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)))


def test_gamma_and_primaries_of_a_png_are_honoured(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with((b"gAMA", struct.pack(">I", 100000))))
    assert furthest([trained_on(path)[3]], (188, 188, 188)) <= 1
    path.write_bytes(png_with((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", P3_CHUNK)))
    assert furthest(trained_on(path), by_littlecms(profile(P3_COLUMNS, 2.2))) <= 8  # there 2.2, here sRGB's own curve
    path.write_bytes(png_with((b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")))
    assert trained_on(path) == list(COLOURS)


def test_code_points_of_a_png_count_before_all_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with((b"cICP", bytes((12, 13, 0, 1))), (b"gAMA", struct.pack(">I", 100000))))
    assert furthest(trained_on(path), [(219, 37, 34), (0, 164, 35), (28, 58, 209), *COLOURS[3:]]) <= 8
    path.write_bytes(png_with((b"cICP", bytes((1, 13, 0, 1)))))
    assert trained_on(path) == list(COLOURS)
    path.write_bytes(png_with((b"cICP", bytes((9, 16, 0, 1)))))
    with pytest.raises(ImageError, match="high dynamic range"):
        inspect_image(path)


def test_a_cameras_mark_of_adobe_rgb_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.IFD.Interop: {1: "R03"}}
    patches().save(tmp_path / "a.png", exif=exif)
    assert furthest(trained_on(tmp_path / "a.png"), by_littlecms(profile(ADOBE_COLUMNS, 2.2))) <= 1


def test_orientation_in_xmp_turns_the_picture(tmp_path: Path) -> None:
    xmp = '<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    patches().save(tmp_path / "a.png", pnginfo=info)
    patches().save(tmp_path / "a.jpg", xmp=xmp.encode())
    for name in ("a.png", "a.jpg"):
        found = inspect_image(tmp_path / name)
        assert (found.width, found.height) == (16, 96), name


def test_a_picture_that_says_nothing_is_srgb() -> None:
    image = patches()
    check_color(image, b"")
    assert to_srgb(image, b"") is image
    assert issubclass(ColorError, ValueError)
