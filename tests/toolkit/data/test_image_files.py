"""Image files: what is refused, and with which words."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit.data.image_files import MAX_PIXELS, ImageError, inspect_image
from toolkit.files import sha256_file

SAVERS: dict[str, dict[str, Any]] = {"jpg": {}, "png": {}, "webp": {"lossless": True}}


def noise(size: tuple[int, int] = (200, 120)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def claimed_png(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("ending", SAVERS)
def test_a_whole_image_has_its_size_and_hash(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    noise().save(path, **SAVERS[ending])
    info = inspect_image(path)
    assert (info.width, info.height, info.content_hash) == (200, 120, sha256_file(path))


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("ending", SAVERS)
def test_a_cut_image_is_found(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"a.{ending}"
    noise().save(path, **SAVERS[ending])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError):
        inspect_image(path)


def test_a_cut_progressive_jpeg_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise().save(path, progressive=True)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match="truncated"):
        inspect_image(path)


@pytest.mark.parametrize("where", [0.3, 0.6])
def test_a_png_with_a_flipped_bit_is_found(tmp_path: Path, where: float) -> None:
    path = tmp_path / "a.png"
    noise().save(path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * where)] ^= 4
    path.write_bytes(data)
    with pytest.raises(ImageError):
        inspect_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("jpg", "png", "webp"):
        noise((60, 40)).save(tmp_path / f"a.{ending}", exif=exif)
        info = inspect_image(tmp_path / f"a.{ending}")
        assert (info.width, info.height) == ((60, 40) if orientation < 5 else (40, 60))


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="empty"):
        inspect_image(tmp_path / "a.png")


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\0" * 500, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="not a JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF image"):
        inspect_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PPM", "TGA"])
def test_another_format_under_a_known_name_says_so(tmp_path: Path, kind: str) -> None:
    noise().save(tmp_path / "a.jpg", format=kind)
    with pytest.raises(ImageError, match="not a JPEG"):
        inspect_image(tmp_path / "a.jpg")


def test_a_png_named_jpg_is_fine(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.jpg", format="PNG")
    assert inspect_image(tmp_path / "a.jpg").width == 200


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [11_400, 30_000, 60_000])
def test_a_small_file_that_claims_billions_of_pixels_is_refused_without_decoding(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    (tmp_path / "a.png").write_bytes(claimed_png(side, side))
    with pytest.raises(ImageError, match="more than 128 million pixels"):
        inspect_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_the_picture_of_a_large_camera_is_accepted_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (12_000, 9_000)).save(tmp_path / "a.png")
    assert inspect_image(tmp_path / "a.png").width == 12_000


def test_a_missing_file_a_folder_and_a_link_to_itself_say_so(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("loop.png", "folder.png", "none.png"):
        with pytest.raises(ImageError):
            inspect_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="regular"):
        inspect_image(tmp_path / "a.png")
