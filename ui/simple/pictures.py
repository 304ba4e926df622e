"""Pictures and captions of the simple page: dropped files become a folder that a job can train on."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.captions.files import read_caption
from toolkit.data.image_files import EXTENSIONS, ImageError, inspect_image
from toolkit.errors import UserError
from toolkit.files import whole_file, write_text

MOST_FILES = 2000


def add_files(folder: Path, uploads: Iterable[Path]) -> list[str]:
    """Copy dropped images and caption files into a folder.

    Args:
        folder: made where it is missing.
        uploads: files with the names that the user's have.

    Returns:
        What could not be taken, one line each. Everything else has been copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = {_folded(path.name) for path in folder.iterdir()}
    refused = []
    for upload in uploads:
        reason = _refusal(upload, present)
        if reason:
            refused.append(f"{upload.name}: {reason}")
            continue
        with whole_file(folder / upload.name) as temporary:
            shutil.copyfile(upload, temporary)
        present.add(_folded(upload.name))
    return refused


def captions(folder: Path) -> list[tuple[str, str]]:
    """Every image of a folder with its caption, by name. A caption that cannot be read is empty."""
    return [(image.name, _caption(image)) for image in images(folder)]


def images(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())


@dataclass(frozen=True)
class Clash:
    """A caption that was changed in two places since it was read.

    Attributes:
        name: of the image.
        theirs: what is in its file now.
        ours: what was to be written.
    """

    name: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        return (
            f'{self.name}: its caption was changed elsewhere meanwhile, to "{self.theirs}", and is kept so. '
            f'Yours was "{self.ours}": change it again if yours is better.'
        )


def write_captions(folder: Path, rows: Sequence[Sequence[object]], seen: Mapping[str, str]) -> list[Clash]:
    """Write the captions that were changed since they were read. Returns those that were not written.

    Args:
        folder: folder of the images.
        rows: name of an image and its caption.
        seen: the captions as they were read: whoever has changed one since is not overwritten.

    Raises:
        UserError: a row names no image of the folder, or one names it twice.
    """
    known = {image.name: image for image in images(folder)}
    new: dict[str, str] = {}
    for row in rows:
        name, text = (str(value or "") for value in [*row, ""][:2])
        if name not in known:
            raise UserError(f'Captions: there is no picture "{name}". Change only the caption column.')
        if name in new:
            raise UserError(f'Captions: "{name}" is listed twice. Delete one of the rows.')
        new[name] = text.strip()
    clashes = []
    for name, text in new.items():
        before, now = seen.get(name, ""), _caption(known[name])
        if text in (before, now):
            continue
        if now != before:
            clashes.append(Clash(name, now, text))
        else:
            write_text(known[name].with_suffix(".txt"), text + "\n")
    return clashes


def _caption(image: Path) -> str:
    try:
        return read_caption(image.with_suffix(".txt"))
    except (OSError, UserError):
        return ""


def _refusal(upload: Path, present: set[str]) -> str | None:
    if upload.name.startswith("."):
        return "hidden files are not accepted"
    if _folded(upload.name) in present:
        return "there is already a file of this name. Rename one of them"
    if len(present) >= MOST_FILES:
        return f"the folder has {MOST_FILES} files already. Train larger sets from a job file"
    if upload.suffix.lower() == ".txt":
        return None if upload.stat().st_size < 100_000 else "the caption is longer than 100,000 bytes"
    if upload.suffix.lower() not in EXTENSIONS:
        return f"not a supported image ({', '.join(sorted(EXTENSIONS))})"
    try:
        inspect_image(upload)
    except ImageError as error:
        return str(error)
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
