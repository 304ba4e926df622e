"""What image files were found to be, remembered for as long as nobody has touched them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path

from toolkit.data.image_files import ImageInfo, inspect_image

MOST_FILES = 20_000  # of about 500 bytes each
_SETTLED_NS = 2_000_000_000  # a file that was changed just now may be changed again without a trace in its times

Identity = tuple[int, int, int, int, int]


class ImageCache:
    """Remembers in this process, which may check the same job again and again; nothing is kept on disk.

    A file is the one from before if its name, its place on the drive, its size and both its times are: who changes its
    content changes one of them, and nobody can set the second time. Files that cannot be read are not remembered.
    """

    def __init__(self, most_files: int = MOST_FILES) -> None:
        self._most_files = most_files
        self._found: OrderedDict[str, tuple[Identity, ImageInfo]] = OrderedDict()
        self._lock = threading.Lock()

    def inspect(self, path: Path) -> ImageInfo:
        """As `inspect_image`, which is asked if the file has changed.

        Raises:
            ImageError: the file cannot be read to its end as an image.
        """
        before, name = _identity(path), str(path)
        with self._lock:
            known = self._found.get(name)
            if known is not None and known[0] == before:
                self._found.move_to_end(name)
                return known[1]
        asked_ns = time.time_ns()
        info = inspect_image(path)
        if before is not None and before == _identity(path) and asked_ns - max(before[3:]) > _SETTLED_NS:
            with self._lock:
                self._found[name] = (before, info)
                self._found.move_to_end(name)
                while len(self._found) > self._most_files:
                    self._found.popitem(last=False)
        return info


IMAGES = ImageCache()
"""That of this process."""


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):  # `inspect_image` says why
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
