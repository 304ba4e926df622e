"""Image files of every sad kind, through the scan and the loader: the right pixels, or the file named with a remedy."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from tests.reliability.bad_inputs.battery import expect_error, expect_result, fingerprint
from toolkit.config.dataset import DatasetConfig
from toolkit.data import Scan, scan_datasets
from toolkit.data.images import load_image
from toolkit.errors import JobError, UserError

KIND = "images"
Make = Callable[[Path], None]
SIDE = 64
BACKGROUND = (10, 200, 30)


def picture(mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A smooth picture with a dark corner, so that turning, inverting and scaling all show."""
    width, height = size
    across = np.linspace(20, 235, width, dtype=np.float32)[None, :].repeat(height, 0)
    down = np.linspace(20, 235, height, dtype=np.float32)[:, None].repeat(width, 1)
    rgb = np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8)
    rgb[: max(1, height // 4), : max(1, width // 4)] = (5, 5, 90)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bytes_of(data: bytes) -> Make:
    return lambda path: void(path.write_bytes(data))


def void(_: object) -> None:
    return None


def png_of(width: int, height: int, *, color_type: int = 2, rows: bytes = b"") -> bytes:
    """A PNG that claims a size; what it holds may be less, or may unpack to a lot."""
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    return png[:33] + chunk(kind, data) + png[33:]


def flipped(data: bytes, seed: int, count: int) -> bytes:
    draw, result = random.Random(seed), bytearray(data)
    for _ in range(count):
        result[draw.randrange(len(result))] ^= 1 << draw.randrange(8)
    return bytes(result)


def scan(folder: Path, **options: object) -> Scan:
    dataset = {"folder_path": folder, "resolution": SIDE, "default_caption": "", **options}
    return scan_datasets([DatasetConfig.model_validate(dataset)], divisor_px=16, trigger_word=None)


def load_all(folder: Path) -> list[Image.Image]:
    """The pixels of a dataset as training sees them; its problems are an error, as `--check` makes them one."""
    found = scan(folder)
    if found.problems:
        raise JobError("job.yaml", found.problems)
    return [load_image(example, background=BACKGROUND) for example in found.examples]


def the_image(make: Make, folder: Path, name: str) -> Callable[[], Image.Image]:
    make(folder / name)
    return lambda: load_all(folder)[0]


JPEG = encoded(picture(), "JPEG", quality=95)
PNG = encoded(picture(), "PNG")
WEBP = encoded(picture(), "WEBP", lossless=True)
GIF = encoded(picture(), "GIF")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


TURNS = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def stored_turned(orientation: int) -> bytes:
    """A file whose stored pixels, turned as its EXIF says, are `picture()`."""
    image = picture()
    for turn in TURNS[orientation]:
        image = image.transpose(turn)
    return encoded(image, "PNG", exif=exif(orientation))


def translucent(mode: str) -> Image.Image:
    image = picture("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode) if mode != "RGBA" else image


def on_background(image: Image.Image) -> Image.Image:
    """Independent of the product: alpha compositing in floating point."""
    values = np.asarray(image.convert("RGBA")).astype(np.float64)
    alpha = values[..., 3:] / 255
    mixed = values[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha)
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def sixteen_bit() -> bytes:
    grey = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    return encoded(Image.fromarray(grey), "PNG")


def sixteen_bit_seen() -> Image.Image:
    return Image.fromarray(np.round(np.linspace(0, 255, SIDE * SIDE)).reshape(SIDE, SIDE).astype(np.uint8)).convert(
        "RGB"
    )


def frames(kind: str) -> bytes:
    return encoded(picture(), kind, save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE), "red")] * 2)


PALETTE = picture().quantize(64)
HIDDEN = Image.merge("RGBA", (*picture().split(), Image.new("L", (SIDE, SIDE), 0)))  # colours behind alpha 0
CMYK = picture("CMYK")

# name of the file, its bytes, the pixels it must give, how far they may be off (lossy formats)
RIGHT: dict[str, tuple[str, bytes, Image.Image, int]] = {
    "jpeg": ("x.jpg", JPEG, picture(), 12),
    "png": ("x.png", PNG, picture(), 0),
    "webp": ("x.webp", WEBP, picture(), 0),
    "png named jpg": ("x.jpg", PNG, picture(), 0),
    "webp named png": ("x.png", WEBP, picture(), 0),
    "jpeg named webp": ("x.webp", JPEG, picture(), 12),
    "upper case extension": ("x.PNG", PNG, picture(), 0),
    "gif named png": ("x.png", GIF, Image.open(io.BytesIO(GIF)).convert("RGB"), 0),
    "animated gif: first picture": ("x.png", frames("GIF"), Image.open(io.BytesIO(frames("GIF"))).convert("RGB"), 0),
    "animated png: first picture": ("x.png", frames("PNG"), picture(), 0),
    "animated webp: first picture": (
        "x.webp",
        frames("WEBP"),
        Image.open(io.BytesIO(frames("WEBP"))).convert("RGB"),
        0,
    ),
    "several pictures in a jpeg (mpo)": ("x.jpg", frames("MPO"), picture(), 25),
    "cmyk jpeg": ("x.jpg", encoded(CMYK, "JPEG", quality=95), CMYK.convert("RGB"), 25),
    "grey jpeg": ("x.jpg", encoded(picture("L"), "JPEG", quality=95), picture("L").convert("RGB"), 12),
    "progressive jpeg": ("x.jpg", encoded(picture(), "JPEG", quality=95, progressive=True), picture(), 12),
    "jpeg without subsampling": ("x.jpg", encoded(picture(), "JPEG", quality=100, subsampling=0), picture(), 6),
    "one bit": ("x.png", encoded(picture("1"), "PNG"), picture("1").convert("RGB"), 0),
    "grey": ("x.png", encoded(picture("L"), "PNG"), picture("L").convert("RGB"), 0),
    "sixteen bit grey": ("x.png", sixteen_bit(), sixteen_bit_seen(), 1),
    "grey with alpha": ("x.png", encoded(translucent("LA"), "PNG"), on_background(translucent("LA")), 1),
    "rgb with alpha": ("x.png", encoded(translucent("RGBA"), "PNG"), on_background(translucent("RGBA")), 1),
    "colours behind alpha 0": ("x.png", encoded(HIDDEN, "PNG"), on_background(HIDDEN), 0),
    "webp with alpha": ("x.webp", encoded(HIDDEN, "WEBP", lossless=True), on_background(HIDDEN), 0),
    "palette": ("x.png", encoded(PALETTE, "PNG"), PALETTE.convert("RGB"), 0),
    "palette with a transparent colour": (
        "x.png",
        encoded(PALETTE, "PNG", transparency=3),
        on_background(Image.open(io.BytesIO(encoded(PALETTE, "PNG", transparency=3)))),
        1,
    ),
    "palette with alpha": (
        "x.png",
        encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 4))),
        on_background(Image.open(io.BytesIO(encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 4)))))),
        1,
    ),
    "rgb with a transparent colour": (
        "x.png",
        encoded(picture(), "PNG", transparency=(5, 5, 90)),
        on_background(Image.open(io.BytesIO(encoded(picture(), "PNG", transparency=(5, 5, 90))))),
        0,
    ),
    "icc profile": ("x.png", encoded(picture(), "PNG", icc_profile=SRGB), picture(), 0),
    "tiff named png": ("x.png", encoded(picture(), "TIFF"), picture(), 0),
    "bmp named jpg": ("x.jpg", encoded(picture(), "BMP"), picture(), 0),
    "exif of nonsense": (
        "x.jpg",
        encoded(picture(), "JPEG", quality=95, exif=b"Exif\0\0" + b"\xff" * 90),
        picture(),
        12,
    ),
    "exif orientation 0": ("x.png", encoded(picture(), "PNG", exif=exif(0)), picture(), 0),
    "exif orientation 9": ("x.png", encoded(picture(), "PNG", exif=exif(9)), picture(), 0),
    "bytes after the end": ("x.png", PNG + b"more" * 100, picture(), 0),
    "1 x 1": ("x.png", encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), Image.new("RGB", (16, 16), (9, 8, 7)), 0),
    **{f"exif orientation {number}": ("x.png", stored_turned(number), picture(), 0) for number in TURNS},
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_unusual_image_has_the_pixels_that_people_see(name: str, tmp_path: Path) -> None:
    file, data, reference, tolerance = RIGHT[name]
    image = expect_result(KIND, the_image(bytes_of(data), tmp_path, file))
    assert image.mode == "RGB"
    assert image.size == reference.size
    if tolerance > 6:  # a lossy format: its own ringing at the corner is not the question
        image, reference = (one.filter(ImageFilter.BoxBlur(2)) for one in (image, reference))
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(reference).astype(int))
    assert difference.max() <= tolerance


# Shapes that no bucket has: width, height -> the bucket.
SHAPES = {(1, 40): (16, 256), (40, 1): (256, 16), (50_000, 20): (256, 16), (20, 50_000): (16, 256), (17, 15): (16, 16)}


@pytest.mark.parametrize("size", SHAPES)
def test_the_strangest_shapes_become_a_bucket(size: tuple[int, int], tmp_path: Path) -> None:
    image = expect_result(KIND, the_image(bytes_of(encoded(Image.new("RGB", size, "red"), "PNG")), tmp_path, "x.png"))
    assert image.size == SHAPES[size]
    assert image.getextrema() == ((255, 255), (0, 0), (0, 0))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.with_name("other.png").symlink_to(path)
    path.symlink_to(path.with_name("other.png"))


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 40_000_000_000)


def forbidden(path: Path) -> None:
    path.write_bytes(PNG)
    path.chmod(0)


# What it is -> file name, how it is made, words of the reason.
WRONG: dict[str, tuple[str, Make, str]] = {
    "zero bytes": ("x.png", bytes_of(b""), "the file is empty"),
    "one byte": ("x.jpg", bytes_of(b"\xff"), "is not a JPEG"),
    "text": ("x.jpg", bytes_of(b"this is no picture"), "is not a JPEG"),
    "html page": ("x.jpg", bytes_of(b"<!DOCTYPE html><html>404</html>"), "is not a JPEG"),
    "a caption": ("x.png", bytes_of("ein Fuß".encode("latin-1")), "is not a JPEG"),
    "git lfs pointer": (
        "x.png",
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "is not a JPEG",
    ),
    "icc profile of nonsense": (
        "x.png",
        bytes_of(encoded(picture(), "PNG", icc_profile=b"\xff" * 500)),
        "its colour profile cannot be used",
    ),
    "floats named png": ("x.png", bytes_of(encoded(picture("F"), "TIFF")), "save it as 8-bit RGB"),
    "svg named png": ("x.png", bytes_of(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "is not a JPEG"),
    "pdf named jpg": ("x.jpg", bytes_of(b"%PDF-1.7\n%"), "is not a JPEG"),
    "eps named png": ("x.png", bytes_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is not a JPEG"),
    "zip named webp": ("x.webp", bytes_of(b"PK\x03\x04" + b"\0" * 60), "is not a JPEG"),
    "pickle named png": ("x.png", bytes_of(b"\x80\x04cos\nsystem\n(S'touch canary'\ntR."), "is not a JPEG"),
    "signature only": ("x.png", bytes_of(PNG[:8]), ""),
    "header only": ("x.png", bytes_of(PNG[:33]), ""),
    "half a png": ("x.png", bytes_of(PNG[: len(PNG) // 2]), "truncated"),
    "half a jpeg": ("x.jpg", bytes_of(JPEG[: len(JPEG) // 2]), "truncated"),
    "half a webp": ("x.webp", bytes_of(WEBP[: len(WEBP) // 2]), ""),
    "jpeg without its last tenth": ("x.jpg", bytes_of(JPEG[: len(JPEG) * 9 // 10]), "truncated"),
    "png with a wrong checksum": ("x.png", bytes_of(PNG[:40] + bytes([PNG[40] ^ 255]) + PNG[41:]), ""),
    "png without data": ("x.png", bytes_of(png_of(64, 64)), ""),
    "png of 0 x 0": ("x.png", bytes_of(png_of(0, 0)), ""),
    "png with a colour type that there is not": ("x.png", bytes_of(png_of(8, 8, color_type=9)), ""),
    "bomb of 30,000 x 30,000": ("x.png", bytes_of(png_of(30_000, 30_000)), "save a smaller copy"),
    "bomb of 2,000,000,000 x 2": ("x.png", bytes_of(png_of(2_000_000_000, 2)), ""),
    "bomb below pillow's error": ("x.png", bytes_of(png_of(13_000, 13_000)), "save a smaller copy"),
    "bomb in a text chunk": (
        "x.png",
        bytes_of(with_chunk(PNG, b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 80_000_000, 9))),
        "",
    ),
    "folder": ("x.png", lambda path: path.mkdir(), "contains no images"),
    "pipe": ("x.png", fifo, "not a regular file"),
    "device": ("x.png", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "link to itself": ("x.png", lambda path: path.symlink_to(path), "symbolic links"),
    "two links in a circle": ("x.png", loop, "symbolic links"),
    "link to nothing": ("x.png", lambda path: path.symlink_to("gone.png"), "No such file"),
    "40 GB of nothing": ("x.png", sparse, "save a smaller copy"),
    "no permission": ("x.png", forbidden, "Permission denied"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_image_that_cannot_be_used_is_named_with_its_reason_and_a_remedy(name: str, tmp_path: Path) -> None:
    if name == "no permission" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    file, make, words = WRONG[name]
    make(tmp_path / file)
    what = (
        (str(tmp_path), "contains no images") if name == "folder" else (str(tmp_path / file), words, "skip_unreadable")
    )
    expect_error(KIND, lambda: load_all(tmp_path), *what)


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
@pytest.mark.parametrize("seed", range(25))
def test_flipped_bits_give_pixels_or_a_reason(data: bytes, seed: int, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(flipped(data, seed, count=1 + seed % 8))
    try:
        expect_result("images with flipped bits", lambda: load_all(tmp_path))
    except AssertionError as error:
        assert isinstance(error.__cause__, UserError)
        assert "x.png" in str(error.__cause__)


def test_no_dataset_file_is_modified_by_any_of_this(tmp_path: Path) -> None:
    for number, (file, make, _) in enumerate(WRONG.values()):
        if make not in (sparse, forbidden):
            (tmp_path / str(number)).mkdir()
            make(tmp_path / str(number) / file)
    for number, (file, data, _, _) in enumerate(RIGHT.values()):
        (tmp_path / f"{number}_{file}").write_bytes(data)
    before = fingerprint(tmp_path)
    found = scan(tmp_path, skip_unreadable=True)
    assert not found.problems
    assert len(found.examples) >= len(RIGHT)
    for example in found.examples:
        load_image(example, background=BACKGROUND)
    assert fingerprint(tmp_path) == before


BOMBS = """
import resource, sys
from pathlib import Path
from toolkit.config.dataset import DatasetConfig
from toolkit.data import scan_datasets
dataset = DatasetConfig.model_validate({"folder_path": sys.argv[1], "resolution": 64, "default_caption": ""})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = scan_datasets([dataset], divisor_px=16, trigger_word=None)
print(len(found.problems), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_folder_of_bombs_takes_the_memory_of_one_large_picture(tmp_path: Path) -> None:
    large = zlib.compress(b"".join(b"\0" + b"\0" * 7000 for _ in range(7000)), 9)
    for number in range(4):  # 49 megapixels each, 196 MB decoded, a few kB on disk
        (tmp_path / f"{number}.png").write_bytes(png_of(7000, 7000, color_type=0, rows=large) + bytes([number]))
    for number in range(4, 8):
        (tmp_path / f"{number}.png").write_bytes(png_of(30_000, 30_000) + bytes([number]))
    command = [sys.executable, "-c", BOMBS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    problems, grown_kb = map(int, done.stdout.split())
    assert problems == 4
    assert grown_kb < 700_000
