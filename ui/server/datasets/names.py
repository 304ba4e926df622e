"""What a file or a dataset may be called, so that it is the same file on every system."""

from __future__ import annotations

import unicodedata

from toolkit.config.paths import IMAGE_EXTENSIONS
from ui.server.refusal import Refusal
from ui.server.roots import is_reserved

CAPTION_EXTENSION = ".txt"
LONGEST_NAME = 200  # bytes of UTF-8; file systems allow 255, and a caption's or a temporary name is longer
_FORBIDDEN = set('<>:"/\\|?*')


def folded(name: str) -> str:
    """Equal for names that some systems take for the same: letter case and Unicode form aside."""
    return unicodedata.normalize("NFC", name).casefold()


def stem_of(name: str) -> str:
    """A name without its extension."""
    return name.rpartition(".")[0] or name


def extension_of(name: str) -> str:
    """The extension of a name, in small letters, with its dot; empty if it has none."""
    stem, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def checked_name(name: str, where: str = "name") -> str:
    """The name in its composed Unicode form.

    Raises:
        Refusal: it is not one that every system takes; the problem names `where`.
    """
    name = unicodedata.normalize("NFC", name)
    shown = name[:100]
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise Refusal(422, f'"{shown}" contains half a character. Choose another name.', where) from None
    if not name.strip():
        raise Refusal(422, "Give it a name.", where)
    if length > LONGEST_NAME:
        raise Refusal(422, f'"{shown}…" is too long: {length} bytes, of {LONGEST_NAME} at most. Shorten it.', where)
    odd = sorted({sign for sign in name if sign in _FORBIDDEN or not sign.isprintable()})
    if odd:
        signs = " ".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in odd[:5])
        raise Refusal(422, f'"{shown}" contains {signs}, which a name cannot have on every system. Rename it.', where)
    if name[0] == "." or name[-1] in " ." or name[0] == " ":
        raise Refusal(422, f'"{shown}" begins or ends with a dot or a space. Rename it.', where)
    if is_reserved(name):
        raise Refusal(422, f'"{shown}" is a reserved name on some systems. Choose another one.', where)
    return name


def checked_file_name(name: str, where: str = "name") -> str:
    """The name of a picture or a caption file.

    Raises:
        Refusal: as `checked_name`, or its extension is of neither.
    """
    name = checked_name(name, where)
    extension = extension_of(name)
    if extension not in IMAGE_EXTENSIONS and extension != CAPTION_EXTENSION:
        kinds = ", ".join(sorted(IMAGE_EXTENSIONS))
        what = f'"{name[:100]}" is neither a picture ({kinds}) nor a caption ({CAPTION_EXTENSION}).'
        raise Refusal(422, what, where)
    return name
