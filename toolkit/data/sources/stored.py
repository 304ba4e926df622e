"""Images inside a larger file: a path below a file, such as `shard.tar/0001.jpg`, names one of them."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from toolkit.data.sources.tables import open_table
from toolkit.data.sources.tars import TAR, open_tar

Reader = Callable[[], bytes]
Identity = tuple[int, int, int, int, int]
_MOST_OPEN = 64
_BELOW_A_FILE = (NotADirectoryError, FileNotFoundError)  # Windows says the second
_OPEN: OrderedDict[Path, tuple[Identity, Mapping[str, Reader]]] = OrderedDict()
_LOCK = threading.Lock()


def identity(path: Path) -> Identity | None:
    """What changes when a file changes: device, inode, size and both time stamps; None if it is not there.

    For a member of a larger file, those of that file.
    """
    try:
        status = path.stat()
    except _BELOW_A_FILE:
        holder = _holder(path)
        return None if holder is None else identity(holder)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_stored(path: Path, *, most_bytes: int) -> bytes:
    """The bytes of a file, or of a member of a larger file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, has more than `most_bytes`, or no file can have this name.
    """
    try:
        status = path.stat()
    except _BELOW_A_FILE:
        holder = _holder(path)
        if holder is None:
            raise
        data = _member(path, holder)()
        _must_be_small(len(data), most_bytes)
        return data
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
        raise ValueError("it is not a regular file")
    _must_be_small(status.st_size, most_bytes)
    return path.read_bytes()


def members(holder: Path) -> Mapping[str, Reader]:
    """The members of a tar or a table, in order: name -> what reads it.

    Raises:
        OSError, ValueError: the file cannot be read.
        UserError: reading it needs a package that is not installed.
    """
    now = identity(holder)
    if now is None:
        raise FileNotFoundError(f"no file {holder}")
    with _LOCK:
        if holder in _OPEN and _OPEN[holder][0] == now:
            _OPEN.move_to_end(holder)
            return _OPEN[holder][1]
        found = open_tar(holder) if holder.suffix.lower() == TAR else open_table(holder).images()
        _OPEN[holder] = (now, found)
        while len(_OPEN) > _MOST_OPEN:
            _OPEN.popitem(last=False)
    return found


def _member(path: Path, holder: Path) -> Reader:
    found, name = members(holder), path.relative_to(holder).as_posix()
    if name not in found:
        raise FileNotFoundError(f"no {name} in {holder}")
    return found[name]


def _holder(path: Path) -> Path | None:
    return next((parent for parent in path.parents if parent.is_file()), None)


def _must_be_small(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ValueError(f"the file has more than {most_bytes // 1_000_000} MB; save a smaller copy")
