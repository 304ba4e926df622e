"""Atomic file writes: temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.output.alive import ProcessIdentity, this_process

TEMPORARY_PREFIX = ".part-"
_WRITER = re.compile(r"\.part-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-")
_ABANDONED_S = 24 * 3600.0  # no writer on another machine takes that long over one file
_CHUNK = 1 << 24
_LARGEST_HEADER = 1 << 26
_WINDOWS = os.name == "nt"


class Disk:
    """The calls that change what is on disk, collected here so that tests can make each of them fail."""

    def open(self, path: Path) -> int:
        """Create or truncate a file for writing. Returns its handle."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        return os.open(str(path), flags, 0o666)

    def write(self, handle: int, data: memoryview) -> int:
        """Write from the beginning of `data`. Returns how many bytes were written, which may be fewer than all."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Wait until the content of an open file or folder is on the drive."""
        os.fsync(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing whatever is at `target`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()


disk = Disk()


@dataclass(frozen=True)
class Written:
    """What was written to a file.

    Attributes:
        num_bytes: length of the file.
        sha256: hex digest of the file's content.
    """

    num_bytes: int
    sha256: str


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to the yielded temporary path; on a clean exit it becomes `path`, otherwise nothing changes.

    The parent folder is created. The new file gets the mode of the file it replaces, or the process's default mode
    (safetensors 0.8 writes 0600 on its own). File and folder are synced: a power cut leaves either the old file or the
    new one.

    Raises:
        OSError: the folder cannot be written or the disk is full; `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    os.close(disk.open(temporary))
    mode = (path if path.exists() else temporary).stat().st_mode & 0o777
    try:
        yield temporary
        with temporary.open("rb+") as file:
            temporary.chmod(mode)  # while it is open: the mode may forbid writing
            disk.sync(file.fileno())
        disk.rename(temporary, path)
        sync_folder(path.parent)
    finally:
        _discard(temporary)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill the yielded temporary folder; on a clean exit it becomes `path`, replacing whatever was there.

    Raises:
        OSError: the parent cannot be written or the disk is full; `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path).with_suffix("")
    former = temporary.with_name(f"{temporary.name}-former")
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        if path.exists():
            disk.rename(path, former)
        disk.rename(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> Written:
    """Write `path` chunk by chunk, in place; for use inside `whole_file`.

    Raises:
        OSError: the file cannot be written; the error's `filename` is set.
    """
    digest, num_bytes = hashlib.sha256(), 0
    try:
        handle = disk.open(path)
        try:
            for chunk in chunks:
                digest.update(chunk)
                num_bytes += len(chunk)
                _write_all(handle, memoryview(chunk))
        finally:
            os.close(handle)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    return Written(num_bytes, digest.hexdigest())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with whole_file(path) as temporary:
        write_chunks(temporary, [data])


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file as it is in the file: tensors by name, and `__metadata__`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"{path}: is not a safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path}: is not a safetensors file")
    return header


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file with `\\n` line endings atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text that `write_json` writes."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def delete_file(path: Path) -> None:
    """Delete a file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(path)


def move(source: Path, target: Path) -> None:
    """Move a file or folder within a drive, atomically; parent folders of `target` are created.

    Raises:
        OSError: it cannot be moved, or `target` exists.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    disk.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def sweep_temporary(folder: Path) -> int:
    """Delete what killed processes left half-written in `folder`, but nothing that a live process is still writing.

    If it cannot be determined whether the writer is alive (another machine sharing the drive), age decides.

    Returns:
        The number of files and folders found.
    """
    leftovers = [path for path in folder.glob(f"{TEMPORARY_PREFIX}*") if _is_abandoned(path)]
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # in a shared cache it may belong to another user
                leftover.unlink()
    return len(leftovers)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the drive is full or a quota is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex digest of a JSON value, equal for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def temporary_path(path: Path) -> Path:
    """A unique temporary path next to `path` whose name identifies the writing process, see `sweep_temporary`."""
    writer = this_process()
    name = f"{TEMPORARY_PREFIX}{writer.machine}-{writer.pid}-{writer.started}-{secrets.token_hex(8)}"
    return path.parent / f"{name}{path.suffix}"


def _is_abandoned(leftover: Path) -> bool:
    match = _WRITER.match(leftover.name)
    if match:
        is_alive = ProcessIdentity(match["machine"], int(match["pid"]), int(match["started"])).is_alive()
        if is_alive is not None:
            return not is_alive
    try:
        return time.time() - leftover.lstat().st_mtime > _ABANDONED_S
    except FileNotFoundError:  # its writer has just finished
        return False


def _write_all(handle: int, data: memoryview) -> None:
    data = data.cast("B")
    while data:
        data = data[disk.write(handle, data[:_CHUNK]) :]


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # leftovers are swept at the next start; the original error matters more
        disk.unlink(temporary)


def _sync_tree(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb+") as file:
                disk.sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the drive."""
    if _WINDOWS:  # cannot open a folder there; NTFS journals the rename
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        disk.sync(handle)
    finally:
        os.close(handle)
