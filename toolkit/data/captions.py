"""Captions: found beside the image, read as written, with the trigger word filled in; missing ones are reported."""

from __future__ import annotations

import difflib
import functools
import os
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.data.image_files import ImageInfo
from toolkit.data.listing import Listing
from toolkit.data.scan_result import NAMED_FILES, Findings
from toolkit.errors import UserError

MAX_BYTES = 100_000  # models read only 512 tokens
PLACEHOLDERS = ("[trigger]", "[name]")


class CaptionError(UserError):
    """A caption file that cannot be read as text; the message gives the reason but does not name the file."""


@dataclass(frozen=True)
class Picture:
    """An image with its text.

    Attributes:
        path: the image file.
        info: what was measured.
        caption: what it is trained with, the trigger word filled in.
        has_own_caption: whether a text of its own was found, and is not blank.
        is_blank: whether its text is empty on purpose.
    """

    path: Path
    info: ImageInfo
    caption: str
    has_own_caption: bool
    is_blank: bool


def caption_pictures(
    dataset: DatasetConfig,
    infos: Mapping[Path, ImageInfo],
    listing: Listing,
    trigger: str | None,
    findings: Findings,
) -> list[Picture]:
    """The images with their captions, from the dataset's JSON file or from caption files; unreadable ones are reported.

    Args:
        dataset: where they are from.
        infos: its readable images.
        listing: of its folder or JSON file, which may hold captions too.
        trigger: word that every caption gets, except those of regularisation images.
        findings: gets the problems.
    """
    pictures = []
    folders: dict[Path, CaptionFolder] = {}
    for path, info in infos.items():
        own: str | None
        if path in listing.captions:
            own = plain(listing.captions[path])
        else:
            folder = folders.setdefault(path.parent, CaptionFolder(path.parent))
            own = _read_own(path, folder, dataset.caption_ext, findings)
            if own is None and path in listing.metadata:
                own = plain(listing.metadata[path])
        text = put_trigger(own or dataset.default_caption or "", trigger, must_have=not dataset.is_reg)
        pictures.append(Picture(path, info, text, has_own_caption=bool(own), is_blank=own == ""))
    return pictures


def report_missing_captions(
    dataset: DatasetConfig, pictures: Sequence[Picture], trigger: str | None, findings: Findings
) -> None:
    """Report images without a caption of their own: a problem if no text at all is left to train them with."""
    missing = [picture.path for picture in pictures if not picture.has_own_caption]
    default = put_trigger(dataset.default_caption or "", trigger, must_have=not dataset.is_reg)
    findings.notice(dataset.folder_path, f'without a caption, trained with "{default}"', missing)
    _require_captions(dataset, pictures, trigger, findings)


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


def plain(text: str) -> str:
    """Strip a text and the ends of its lines of white space, and make all line breaks `\\n`."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def put_trigger(caption: str, trigger: str | None, *, must_have: bool) -> str:
    """The caption with `[trigger]` and `[name]` replaced by the trigger word, or removed if there is none.

    Args:
        caption: the caption as written.
        trigger: the trigger word, or None.
        must_have: prepend the trigger word to captions that do not contain it (case-sensitive).
    """
    trigger = trigger or ""
    for placeholder in PLACEHOLDERS:
        if not trigger:
            caption = caption.replace(f"{placeholder} ", "").replace(f" {placeholder}", "")
        caption = caption.replace(placeholder, trigger)
    if must_have and trigger not in caption:
        caption = f"{trigger} {caption}"
    return plain(caption)


def _require_captions(
    dataset: DatasetConfig, pictures: Sequence[Picture], trigger: str | None, findings: Findings
) -> None:
    """Report images without any text, unless their caption files are blank or the job allows it."""
    if dataset.default_caption is not None or (trigger and not dataset.is_reg):
        return
    bare = [picture.path for picture in pictures if not picture.has_own_caption and not picture.is_blank]
    if not bare:
        return
    extension = dataset.caption_ext
    near = dict.fromkeys(
        name for path in bare[:NAMED_FILES] for name in CaptionFolder(path.parent).near_misses(path, extension)
    )
    hint = f" There is {', '.join(list(near)[:NAMED_FILES])}." if near else ""
    names = ", ".join(path.name for path in bare[:NAMED_FILES]) + (", ..." if len(bare) > NAMED_FILES else "")
    count = "1 image has" if len(bare) == 1 else f"{len(bare)} images have"
    findings.problem(
        dataset.folder_path,
        f"{count} no caption: {names}. Looked for {looked_for(bare[0], extension)}.{hint} Write captions, or set "
        '`default_caption` ("" trains without words)' + ("" if dataset.is_reg else " or `trigger_word`"),
    )


def _read_own(image: Path, folder: CaptionFolder, extension: str, findings: Findings) -> str | None:
    """The text of an image's caption file; None if there is none."""
    path = None
    try:
        path = folder.find(image, extension)
        return None if path is None else read_caption(path)
    except FileNotFoundError:
        return None
    except CaptionError as error:
        findings.problem(path or image, str(error))
        return ""
