"""Tar files of samples, as WebDataset writes them: `0001.jpg` and `0001.txt` are one sample."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

TAR = ".tar"


def open_tar(path: Path) -> Mapping[str, Callable[[], bytes]]:
    """The regular files of a tar, in its order: name -> what reads it. Compressed tars cannot be read in any order.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an uncompressed tar, or it ends too early.
    """
    try:
        with tarfile.open(path, "r:") as tar:  # only reads the headers
            files = [(one.name.removeprefix("./"), one.offset_data, one.size) for one in tar if one.isreg()]
    except tarfile.TarError as error:
        raise ValueError(f"is not an uncompressed tar, or is damaged ({error}). Unpack it, or copy it again") from error
    return {name: partial(_read, path, start, length) for name, start, length in files}


def key_and_field(name: str) -> tuple[str, str]:
    """The sample that a file belongs to, and which part of it the file is: `a/1.seg.png` -> (`a/1`, `seg.png`)."""
    folder, _, last = name.rpartition("/")
    stem, _, field = last.partition(".")
    return f"{folder}/{stem}" if folder else stem, field.lower()


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
