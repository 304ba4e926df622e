"""Small copies of pictures, made once and kept in the store."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path

from toolkit.errors import UserError
from toolkit.output.small_pictures import shrunk
from ui.server.refusal import Refusal

SIZES = (128, 256, 512)
_WORKERS = 2


class Thumbs:
    """Small copies as WebP, at most two in the making at a time."""

    def __init__(self, store: Path) -> None:
        self.folder = store / "thumbs"
        self._room = threading.Semaphore(_WORKERS)

    def key(self, path: Path, size_px: int) -> str:
        """Changes with the picture."""
        status = path.stat()
        text = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {size_px}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def read(self, path: Path, size_px: int) -> bytes:
        """A small copy of a picture.

        Raises:
            Refusal: it is none that can be shown.
        """
        kept = self._place(path, size_px)
        with contextlib.suppress(OSError):
            content = kept.read_bytes()
            if _is_whole(content):
                return content
        content = self._make(path, size_px)
        with contextlib.suppress(OSError):  # no room: it is made again next time
            _keep(kept, content)
        return content

    def file(self, path: Path, size_px: int) -> Path:
        """The file of a small copy: it appears whole, and never changes.

        Raises:
            Refusal: it is not a picture that can be shown.
            OSError: there is no room for the copy, or the picture has gone.
        """
        kept = self._place(path, size_px)
        if not (kept.exists() and _is_whole(kept.read_bytes())):
            _keep(kept, self._make(path, size_px))
        return kept

    def _place(self, path: Path, size_px: int) -> Path:
        return self.folder / f"{self.key(path, size_px)}.webp"

    def _make(self, path: Path, size_px: int) -> bytes:
        try:
            with self._room:
                return shrunk(path, size_px)
        except UserError as error:
            raise Refusal(409, str(error)) from error


def _keep(path: Path, content: bytes) -> None:
    """Without waiting for the disk, unlike everything else: a copy that a power cut tears is made again."""
    temporary = path.with_suffix(f".{threading.get_ident()}")
    path.parent.mkdir(exist_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)


def _is_whole(webp: bytes) -> bool:
    return webp[:4] == b"RIFF" and len(webp) == 8 + int.from_bytes(webp[4:8], "little")
