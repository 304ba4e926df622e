"""Files that are sent to a dataset: each arrives whole under its own name, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from toolkit.data.captions.files import MAX_BYTES, read_caption
from toolkit.data.captions.texts import CaptionError
from toolkit.data.image_files import MAX_FILE_BYTES
from toolkit.files import delete_file, disk, move, sweep_temporary, temporary_path, write_chunks
from ui.server.datasets.album import Album
from ui.server.datasets.names import CAPTION_EXTENSION, checked_file_name, extension_of
from ui.server.refusal import Refusal

MOST_FILES = 200_000  # in one dataset: pictures and captions together
LARGEST_ZIP = 8_000_000_000
KEPT_FREE = 500_000_000  # bytes of the disk that uploads leave to what runs
_MOST_AT_ONCE = 8  # each holds a thread, for as long as its sender likes
_LOOKED_AT = 32  # first bytes
_LOOK_BYTES = 64_000_000  # between two looks at the free room

_room = threading.BoundedSemaphore(_MOST_AT_ONCE)
_swept: set[Path] = set()


@contextlib.contextmanager
def arriving(own: Path, chunks: Iterator[bytes], *, extension: str, limit: int, length: int | None) -> Iterator[Path]:
    """What is sent, under a temporary name, which is deleted afterwards unless it was moved.

    Args:
        own: the dataset's own folder.
        chunks: what is sent, piece by piece.
        extension: what it should be, by its name.
        limit: most bytes.
        length: number of bytes that the sender has announced; None if none was.

    Raises:
        Refusal: too large, not what its name says, no room on the disk, or too many are sent at a time.
        OSError: it cannot be written.
    """
    if length is not None and length > limit:
        raise _too_large(limit)
    if not _room.acquire(blocking=False):
        raise Refusal(409, f"{_MOST_AT_ONCE} uploads are in progress. Try again when one of them has finished.")
    try:
        incoming = own / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        if incoming not in _swept:
            sweep_temporary(incoming)
            _swept.add(incoming)
        require_room(incoming, length or 0)
        temporary = temporary_path(incoming / f"x{extension}")
        try:
            written = write_chunks(temporary, _checked(chunks, extension, limit, incoming))
            if length is not None and written.num_bytes != length:
                raise Refusal(422, f"Only {written.num_bytes:,} of {length:,} bytes have arrived. Send it again.")
            yield temporary
        finally:
            if temporary.exists():
                delete_file(temporary)
    finally:
        _room.release()


def receive(album: Album, own: Path, name: str, chunks: Iterator[bytes], length: int | None) -> str:
    """Put a picture or a caption into a dataset.

    Returns:
        Its name, in the composed Unicode form.

    Raises:
        Refusal: its name is taken, in any spelling, or as `arriving` does.
    """
    name = checked_file_name(name)
    require_free(album, [name])
    extension = extension_of(name)
    limit = MAX_BYTES if extension == CAPTION_EXTENSION else MAX_FILE_BYTES
    with arriving(own, chunks, extension=extension, limit=limit, length=length) as temporary:
        check_content(temporary, name)
        sync(temporary)
        with album.lock:
            require_free(album, [name])
            move(temporary, album.folder / name)
            album.added(name)
    return name


def require_free(album: Album, names: list[str]) -> None:
    """Raises Refusal if a name is taken, or if there are too many files."""
    with album.lock:
        for name in names:
            taken = album.twin(name)
            if taken is not None:
                raise Refusal(409, twin_words(name, taken), "name")
        if album.num_names + len(names) > MOST_FILES:
            raise Refusal(409, f"A dataset can hold {MOST_FILES:,} files at most. Create another dataset.")


def twin_words(name: str, taken: str) -> str:
    """What is wrong with a name that is taken."""
    if name == taken:
        return f'There is already a file "{name}". Rename one of them; nothing was replaced.'
    if extension_of(name) != CAPTION_EXTENSION and extension_of(name) != extension_of(taken):
        return f'"{name}" would share its caption file with "{taken}". Rename one of them.'
    return f'"{name}" would be the same file as "{taken}" on some systems. Rename one of them.'


def check_content(path: Path, name: str) -> None:
    """Raises Refusal if a caption is not text, or a picture is empty."""
    if extension_of(name) == CAPTION_EXTENSION:
        try:
            read_caption(path)
        except CaptionError as error:
            raise Refusal(422, f"{name} {error}.", "name") from error
    elif path.stat().st_size == 0:
        raise Refusal(422, f"{name} is empty.", "name")


def require_room(folder: Path, num_bytes: int) -> None:
    """Raises Refusal if the disk would have less than `KEPT_FREE` left."""
    free = shutil.disk_usage(folder).free
    if free - num_bytes < KEPT_FREE:
        what = (
            f"{KEPT_FREE / 1e6:.0f} MB of the disk must stay free: this needs {num_bytes / 1e6:,.1f} MB, and "
            f"{free / 1e6:,.1f} MB are free. Free up some space, then try again."
        )
        raise Refusal(409, what)


def sync(path: Path) -> None:
    """Wait until the content of a file is on the drive."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        disk.sync(handle)
    finally:
        os.close(handle)


def _checked(chunks: Iterator[bytes], extension: str, limit: int, folder: Path) -> Iterator[bytes]:
    total, first, looked = 0, b"", 0
    is_known = False
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        if not is_known:
            first += chunk[: _LOOKED_AT - len(first)]
            if len(first) >= _LOOKED_AT:
                check_magic(first, extension)
                is_known = True
        if total - looked > _LOOK_BYTES:
            looked = total
            require_room(folder, 0)
        yield chunk
    if not is_known and first:
        check_magic(first, extension)


def check_magic(first: bytes, extension: str) -> None:
    """Raises Refusal if the first bytes of a file are not those of what its name says."""
    is_right = {
        ".jpg": first.startswith(b"\xff\xd8\xff"),
        ".png": first.startswith(b"\x89PNG\r\n\x1a\n"),
        ".webp": first[:4] == b"RIFF" and first[8:12] == b"WEBP",
        ".avif": first[4:8] == b"ftyp" and b"avi" in first[8:32],
        ".bmp": first.startswith(b"BM"),
        ".tif": first[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        ".zip": first.startswith((b"PK\x03\x04", b"PK\x05\x06")),
        CAPTION_EXTENSION: b"\0" not in first,
    }
    kind = {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}.get(extension, extension)
    if not is_right[kind]:
        what = f"The content doesn't match the file name ({extension}). Save it in that format, or correct its name."
        raise Refusal(422, what, "name")


def _too_large(limit: int) -> Refusal:
    unit = f"{limit / 1e6:,.0f} MB" if limit >= 1_000_000 else f"{limit / 1e3:,.0f} kB"
    return Refusal(413, f"The file is larger than {unit}.")
