"""Opens users' image files within limits, checks that they can be decoded, and measures them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import threading
import time
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.color import check_color
from toolkit.data.sources.known import KnownFiles
from toolkit.data.sources.stored import Identity, identity, read_stored
from toolkit.errors import UserError
from toolkit.runtime.waiting import said_every

EXTENSIONS = IMAGE_EXTENSIONS
HEIC_REMEDY = "Save a JPEG copy (on an iPhone: Settings, Camera, Formats, Most Compatible)"
MAX_PIXELS = 128_000_000  # allows the 108 megapixels of a phone; a small file can claim billions
MAX_FILE_BYTES = 600_000_000  # size of MAX_PIXELS, uncompressed
# Exceptions that pillow's decoders raise for damaged data, besides running out of memory.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error)

MOST_REMEMBERED = 100_000  # of about 500 bytes each

_SAVED_AT_ONCE = 500
_SAID_EVERY_S = 10.0
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")  # JPEG includes the MPO files of phones
# Modes that can be reduced to 8 bits and still be the same image: the others hold measurements, or print colours.
_MODES = re.compile(r"1|L[Aa]?|PA?|RGB[AXa]?|CMYK|YCbCr|I;16.*")
_SETTLED_NS = 2_000_000_000  # a file changed just now may change again with the same time stamp
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_OPENING = threading.Lock()
_DECODING = threading.Condition()
_num_pixels_decoding = 0


class ImageError(UserError):
    """An image file that cannot be used; the message gives the reason but does not name the file."""


@dataclass(frozen=True)
class ImageInfo:
    """A readable image.

    Attributes:
        width, height: size of the upright image in pixels.
        content_hash: sha256 of the file's bytes, hex.
        num_frames: number of frames or pages in the file; only the first is used.
        is_transparent: whether the file has transparency data.
    """

    width: int
    height: int
    content_hash: str
    num_frames: int = 1
    is_transparent: bool = False


def open_image(data: bytes) -> Image.Image:
    """Read the header of an image, or of the first frame of an animation. The pixels are decoded on first use.

    Raises:
        ImageError: the file is empty, has an unsupported format, or has more than `MAX_PIXELS`.
    """
    if not data:
        raise ImageError("the file is empty")
    try:
        # Warning filters are global, hence the lock. Pillow's warning comes below our limit and its error above it.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large("it claims") + f" ({error})") from error
    except UnidentifiedImageError as error:
        raise ImageError(_what_else(data)) from error
    except DECODE_ERRORS as error:
        raise ImageError(str(error)) from error
    if not _MODES.fullmatch(image.mode):
        raise ImageError(f"its pixel format ({image.mode}) is not supported; save it as 8-bit RGB")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(f"{image.width} x {image.height} is"))
    return image


def inspect_image(path: Path) -> ImageInfo:
    """Decode a whole image once and measure it.

    Costs one read of the file and one decode (JPEGs at an eighth of their size: 2 ms per megapixel instead of 5;
    PNG and WebP about 20 ms per megapixel). Both release the GIL, so threads help; all threads together decode at most
    `MAX_PIXELS` at a time.

    Raises:
        ImageError: the file cannot be decoded completely.
    """
    data = read_image(path)
    image = open_image(data)
    width, height = image.size
    try:
        # Entropy decoding still reads every byte, so a truncated file is found; only the inverse transform is saved.
        image.draft(None, (max(1, width // 8), max(1, height // 8)))
        with room_for(image.width * image.height):
            image.load()
        if is_on_its_side(image):
            width, height = height, width
        check_color(image, data)
        # The second image in a phone's JPEG is a preview or a depth map, not a frame of an animation.
        num_frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    except DECODE_ERRORS as error:
        raise ImageError(str(error)) from error
    content_hash = hashlib.sha256(data).hexdigest()
    return ImageInfo(width, height, content_hash, num_frames, is_transparent=image.has_transparency_data)


def is_on_its_side(image: Image.Image) -> bool:
    """Whether width and height change places when an open image is rotated upright."""
    return image.getexif().get(ExifTags.Base.Orientation) in _ROTATED


class ImageCache:
    """Remembers in this process, which may check the same job again and again, and on disk for later starts.

    A file is unchanged if its name, inode, size and both time stamps are. Changing its content changes at least one of
    them: the second time stamp cannot be set back (Windows has none of that kind). Unreadable files are not remembered.
    Code that loads an image compares its content with the hash, see `forget`.

    Args:
        most: number of files that are remembered in this process.
        on_disk: what is known from earlier starts; None to keep nothing on disk.
    """

    def __init__(self, most: int = MOST_REMEMBERED, *, on_disk: KnownFiles | None = None) -> None:
        self._most = most
        self._on_disk = on_disk
        self._fresh: dict[str, tuple[Identity, ImageInfo]] = {}
        self._found: OrderedDict[str, tuple[Identity, ImageInfo]] = OrderedDict()
        self._lock = threading.Lock()

    def inspect(self, path: Path) -> ImageInfo:
        """As `inspect_image`, which is asked if the file has changed.

        Raises:
            ImageError: the file cannot be read to its end as an image.
        """
        before, name = identity(path), str(path)
        with self._lock:
            known = self._found.get(name)
            if known is not None and known[0] == before:
                self._found.move_to_end(name)
                return known[1]
        asked_ns = time.time_ns()
        info = inspect_image(path)
        if before is not None and before == identity(path) and asked_ns - max(before[3:]) > _SETTLED_NS:
            self._remember(name, before, info)
            with self._lock:
                self._fresh[name] = (before, info)
            self._save(at_least=_SAVED_AT_ONCE)
        return info

    def forget(self, path: Path) -> None:
        """Read this file the next time: its content is not what is remembered."""
        with self._lock:
            self._found.pop(str(path), None)
            self._fresh.pop(str(path), None)
        if self._on_disk is not None:
            self._on_disk.forget(str(path))

    def inspect_all(self, paths: Iterable[Path]) -> dict[Path, ImageInfo | ImageError]:
        """As `inspect`, for many files, in several threads; an unreadable file has its error as its value."""
        unique = list(dict.fromkeys(paths))
        self._recall([str(path) for path in unique])
        try:
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                found, count = {}, said_every(_SAID_EVERY_S, "images looked at")
                for path, info in zip(unique, pool.map(self._inspect_or_error, unique), strict=True):
                    found[path] = info
                    count(len(found), len(unique))
                return found
        finally:
            self._save()

    def _recall(self, names: Sequence[str]) -> None:
        if self._on_disk is None:
            return
        with self._lock:
            unknown = [name for name in names if name not in self._found]
        for name, (found, facts) in self._on_disk.read(unknown).items():
            self._remember(name, found, ImageInfo(**facts))

    def _remember(self, name: str, found: Identity, info: ImageInfo) -> None:
        with self._lock:
            self._found[name] = (found, info)
            self._found.move_to_end(name)
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def _save(self, *, at_least: int = 1) -> None:
        """Keep new results on disk, so that an interrupted scan can continue."""
        with self._lock:
            if self._on_disk is None or len(self._fresh) < at_least:
                return
            fresh, self._fresh = self._fresh, {}
        self._on_disk.write((name, found, asdict(info)) for name, (found, info) in fresh.items())

    def _inspect_or_error(self, path: Path) -> ImageInfo | ImageError:
        try:
            return self.inspect(path)
        except ImageError as error:
            return error


IMAGES = ImageCache(on_disk=KnownFiles())
"""That of this process."""


def read_image(path: Path) -> bytes:
    """The bytes of an image file, or of an image in a larger file.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return read_stored(path, most_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error
    except UnicodeEncodeError as error:
        raise ImageError("no file can have this name") from error
    except ValueError as error:
        raise ImageError("no file can have this name" if "null byte" in str(error) else str(error)) from error


@contextmanager
def room_for(num_pixels: int) -> Iterator[None]:
    """Wait until this image and those being decoded on other threads have at most `MAX_PIXELS` together."""
    global _num_pixels_decoding
    with _DECODING:
        _DECODING.wait_for(lambda: _num_pixels_decoding + num_pixels <= MAX_PIXELS)
        _num_pixels_decoding += num_pixels
    try:
        yield
    finally:
        with _DECODING:
            _num_pixels_decoding -= num_pixels
            _DECODING.notify_all()


def _what_else(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"):
        return f"it is a HEIC image. {HEIC_REMEDY}"
    return "it is not a JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF image, whatever its name says"


def _too_large(claim: str) -> str:
    return f"{claim} more than {MAX_PIXELS // 1_000_000} million pixels; save a smaller copy"
