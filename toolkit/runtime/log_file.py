"""Controls where printed text goes: to the terminal, also to a file, or nowhere."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from toolkit.errors import UserError

_REDRAWN_EVERY_S = 30.0


@contextlib.contextmanager
def log_to(path: Path | None) -> Iterator[None]:
    """Append stdout and stderr to a file while the block runs; None does nothing.

    Raises:
        UserError: the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A printed file name that is not UTF-8 contains surrogates; they are written as \udcxx.
        file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise UserError(f"Cannot write the log {path} ({error.strerror})") from error
    with file, contextlib.redirect_stdout(Tee(sys.stdout, file)), contextlib.redirect_stderr(Tee(sys.stderr, file)):
        yield


@contextlib.contextmanager
def silent(is_silent: bool) -> Iterator[None]:
    """While the block runs, print nothing; with False nothing changes. A traceback that leaves the block is shown."""
    if not is_silent:
        yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


class Tee(io.TextIOBase):
    """A stream that is also written to a file, line by line.

    A live line is redrawn after each carriage return: the file gets one of these states now and then, and the last.
    """

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream = stream
        self._file = file
        self._line = ""
        self._redrawn_at = time.monotonic()

    def write(self, text: str) -> int:
        """Write to both. A line reaches the file once it is complete."""
        self._stream.write(text)
        for piece in text.splitlines(keepends=True):
            self._line += piece
            if piece.endswith("\n"):
                self._to_file()
            elif piece.endswith("\r"):
                if self._line.strip() and time.monotonic() - self._redrawn_at >= _REDRAWN_EVERY_S:
                    self._redrawn_at = time.monotonic()
                    self._to_file()
                self._line = ""
        return len(text)

    def flush(self) -> None:
        """Flush both."""
        self._stream.flush()
        self._file.flush()

    def isatty(self) -> bool:
        """See the stream's own."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's own. What a subprocess writes there does not reach the file."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """See the stream's own."""
        return self._stream.encoding

    def _to_file(self) -> None:
        self._file.write(self._line.rstrip("\r\n") + "\n")
        self._line = ""
