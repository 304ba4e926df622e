"""Captions: read from beside the image, put on one line, with the trigger word in its place."""

from __future__ import annotations

import stat
from pathlib import Path

from toolkit.errors import UserError

MAX_BYTES = 100_000  # models read 512 tokens of it
PLACEHOLDERS = ("[trigger]", "[name]")


class CaptionError(UserError):
    """A caption file that cannot be read as text; the text is the reason and does not name the file."""


def caption_file(image: Path, extension: str) -> Path:
    """Where an image's caption is looked for: the same name with the caption extension (its dot may be left out)."""
    return image.with_suffix("." + extension.removeprefix("."))


def read_caption(path: Path) -> str:
    """The text of a caption file on one line; empty for a blank file. A UTF-8 byte order mark is taken off.

    Raises:
        CaptionError: it is no file, far too long, or not UTF-8; says at which byte.
        FileNotFoundError: there is none.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise CaptionError("is not a regular file; write the caption into a text file")
        if status.st_size > MAX_BYTES:
            raise CaptionError(f"has {status.st_size:,} bytes, and a caption at most {MAX_BYTES:,}; shorten it")
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CaptionError(f"cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionError(
            f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from error
    if "\0" in text:  # what UTF-16 without its mark looks like
        raise CaptionError(f"byte {data.index(0)} is a zero, as in UTF-16; save the file as UTF-8")
    return one_line(text)


def one_line(text: str) -> str:
    """The words of a text with one space between them."""
    return " ".join(text.split())


def put_trigger(caption: str, trigger: str | None, *, must_have: bool) -> str:
    """The caption with `[trigger]` and `[name]` replaced by the trigger word, or taken out if there is none.

    Args:
        caption: as written.
        trigger: the trigger word, if any.
        must_have: put the trigger word first where the caption does not contain it (letter case counts).
    """
    trigger = trigger or ""
    for placeholder in PLACEHOLDERS:
        caption = caption.replace(placeholder, trigger)
    if must_have and trigger not in caption:
        caption = f"{trigger} {caption}"
    return one_line(caption)
