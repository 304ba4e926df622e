"""Finds the caption file of an image and reads it."""

from __future__ import annotations

import difflib
import functools
import json
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from toolkit.data.captions.texts import CaptionError, CaptionTexts, plain, texts_in, unused_keys

MAX_BYTES = 100_000  # models read only 512 tokens


class CaptionFolder:
    """Finds the captions in one folder, whatever the letter case or Unicode form of the file names.

    Copying between Windows, Mac and Linux changes both: `A.JPG` comes with `a.txt` or `A.TXT`, and a Mac writes é as
    two characters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, image: Path, extension: str) -> Path | None:
        """The caption file of an image of this folder; None if there is none.

        `name.txt` is tried before `name.jpg.txt`; for each, the exact spelling before any other spelling.

        Args:
            image: path of an image in the folder.
            extension: extension of caption files, with or without the dot.

        Raises:
            CaptionError: several caption files differ only in letter case or Unicode form.
        """
        for name in _caption_names(image, extension):
            if os.path.lexists(self.folder / name):
                return self.folder / name
            if len(found := self._by_folded_name.get(_folded(name), [])) > 1:
                raise CaptionError(f"has several captions: {', '.join(found)}. Keep one")
            if found:
                return self.folder / found[0]
        return None

    def near_misses(self, image: Path, extension: str) -> list[str]:
        """Names of files that may have been meant as the missing caption of an image."""
        stem = _folded(image.stem).partition(".")[0]
        texts = [name for names in self._by_folded_name.values() for name in names if _may_be_caption(name)]
        same = [name for name in texts if _folded(name).partition(".")[0] == stem]
        wanted, folded = _folded(_caption_names(image, extension)[0]), {_folded(name): name for name in texts}
        close = difflib.get_close_matches(wanted, folded, n=2, cutoff=0.85)
        return list(dict.fromkeys([*same, *(folded[name] for name in close)]))[:3]

    @functools.cached_property
    def _by_folded_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError:  # reported where the images are listed
            names = []
        for name in names:
            found.setdefault(_folded(name), []).append(name)
        return found


def looked_for(image: Path, extension: str) -> str:
    """Where an image's caption was looked for, as text for a message."""
    first, second = _caption_names(image, extension)
    return f"{first}, {second} and an entry in metadata.jsonl"


def _caption_names(image: Path, extension: str) -> tuple[str, str]:
    ending = "." + extension.removeprefix(".")
    return image.with_suffix(ending).name, f"{image.name}{ending}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _may_be_caption(name: str) -> bool:
    return Path(name).suffix.lower() in (".txt", ".caption", ".cap", ".tags", ".json", ".md", ".text", ".prompt")


def read_caption(path: Path) -> str:
    """The text of a caption file, with its line breaks; empty for a blank file. A byte order mark is removed.

    Raises:
        CaptionError: the file is not a regular file, is far too long, or is not UTF-8 (with the position of the byte).
        FileNotFoundError: the file does not exist.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
            raise CaptionError("is not a regular file; write the caption into a text file")
        if status.st_size > MAX_BYTES:
            raise CaptionError(f"has {status.st_size:,} bytes, but at most {MAX_BYTES:,} are allowed; shorten it")
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
    if "\0" in text:  # UTF-16 without a byte order mark looks like this
        raise CaptionError(f"byte {data.index(0)} is a zero, as in UTF-16; save the file as UTF-8")
    return plain(text)


def read_texts(path: Path, *, caption_per_line: bool = False, unused: Counter[str] | None = None) -> CaptionTexts:
    """The captions in a file: one, or one per line; a `.json` file is read as JSON (see `texts_in`).

    Args:
        path: the caption file.
        caption_per_line: whether each line of a text file is a caption of its own.
        unused: counts the keys of JSON objects that are not used.

    Raises:
        CaptionError: the file cannot be read, or its JSON holds no captions.
        FileNotFoundError: the file does not exist.
    """
    text = read_caption(path)
    if path.suffix.lower() != ".json":
        lines = text.splitlines() if caption_per_line else [text]
        return CaptionTexts(tuple(dict.fromkeys(line.strip() for line in lines if line.strip())))
    if not text:
        return CaptionTexts()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaptionError(f"is not valid JSON: {error}") from error
    texts = texts_in(content)
    if unused is not None and isinstance(content, Mapping):
        unused.update(unused_keys(content))
    return texts
