"""Lists the image files of a dataset: those in a folder, or those in a JSON file with their captions."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.config.reading.parse import is_whole_text
from toolkit.data.captions.texts import CaptionError, CaptionTexts, texts_of, unused_keys
from toolkit.data.image_files import EXTENSIONS, HEIC_REMEDY
from toolkit.errors import Problem

SKIPPED_FOLDERS = frozenset({"_clip_vision_cache", "_controls", "_latent_cache", "_t_e_cache"})
# Image formats that are not trained on: reported, since users do not expect it.
OTHER_PICTURES = frozenset({".gif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})
METADATA = "metadata.jsonl"


@dataclass
class Listing:
    """The files of one dataset.

    Attributes:
        images: image files in a fixed order that does not depend on the file system.
        captions: captions from the JSON file, by image.
        metadata: captions from a `metadata.jsonl`, by image; used for images without a caption file.
        unused: how often each key of an entry occurs that is not used.
        others: images in formats that are not supported.
        problems: mistakes in the dataset that the user must fix.
    """

    images: list[Path] = field(default_factory=list)
    captions: dict[Path, CaptionTexts] = field(default_factory=dict)
    metadata: dict[Path, CaptionTexts] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    others: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def list_images(source: Path, *, leave_out: Collection[Path] = ()) -> Listing:
    """The images of a folder (with its subfolders) or of a JSON file `{path: {"caption": "..."}}`.

    Hidden files and folders, `SKIPPED_FOLDERS` and the folders in `leave_out` are skipped. Links to folders are
    followed, each folder once. Paths in a JSON file are absolute, or relative to the file or the working folder.
    """
    listing = Listing()
    if source.is_dir():
        _walk(source, listing, seen=_identities(leave_out) - _identities([source]))
        depth = len(source.parts)
        listing.images.sort(key=lambda path: "/".join(path.parts[depth:]))
    elif source.is_file() and source.suffix.lower() == ".json":
        _read_json(source, listing)
    elif source.exists():
        listing.problems.append(Problem(str(source), "is neither a folder of images nor a .json dataset file"))
        return listing
    else:
        listing.problems.append(Problem(str(source), "no such folder or dataset file"))
        return listing
    if not listing.images and not listing.problems:
        others = f", only {', '.join(path.name for path in listing.others[:3])}" if listing.others else ""
        remedy = f". {HEIC_REMEDY}" if any(is_heic(path) for path in listing.others) else ""
        listing.problems.append(Problem(str(source), f"contains no images ({_known_extensions()}){others}{remedy}"))
    return listing


def is_heic(path: Path) -> bool:
    """Whether a file is a HEIC image, as iPhones write them, by its name."""
    return path.suffix.lower() in (".heic", ".heif")


def _identities(folders: Iterable[Path]) -> set[tuple[int, int]]:
    found = [folder.stat() for folder in folders if folder.exists()]
    return {(status.st_dev, status.st_ino) for status in found}


def _walk(folder: Path, listing: Listing, seen: set[tuple[int, int]]) -> None:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:  # knows which are folders without asking for each
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        listing.problems.append(Problem(str(folder), f"cannot be listed: {error.strerror or error}"))
        return
    if (status.st_dev, status.st_ino) in seen:  # a link back up, or a second link to the same folder
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        ending = Path(entry.name).suffix.lower()
        if _is_folder(entry):
            if entry.name not in SKIPPED_FOLDERS:
                _walk(folder / entry.name, listing, seen)
        elif ending in EXTENSIONS:
            listing.images.append(folder / entry.name)
        elif ending in OTHER_PICTURES:
            listing.others.append(folder / entry.name)
        elif entry.name == METADATA:
            _read_metadata(folder / entry.name, listing)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _read_metadata(source: Path, listing: Listing) -> None:
    """Read captions in the format of Hugging Face's ImageFolder: a line `{"file_name": ..., "text": ...}` per image."""
    try:
        lines = source.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        listing.problems.append(Problem(str(source), f"byte {error.start} is not UTF-8; save the file as UTF-8"))
        return
    except OSError as error:
        listing.problems.append(Problem(str(source), f"cannot be read: {error.strerror or error}"))
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            _take_line(source, number, line, listing)


def _take_line(source: Path, number: int, line: str, listing: Listing) -> None:
    where = f"{source}: line {number}"
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        listing.problems.append(Problem(where, f"is not valid JSON: {error}"))
        return
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        what = 'must be an object with a file name and a text: {"file_name": "a.jpg", "text": "..."}'
        listing.problems.append(Problem(where, what))
    elif (texts := _texts(where, name, entry, listing, used=("file_name",))) is not None and texts:
        listing.metadata[source.parent / name] = texts


def _texts(
    where: str, name: str, entry: dict[str, Any], listing: Listing, *, used: tuple[str, ...] = ()
) -> CaptionTexts | None:
    """The captions of an entry; None if they are a problem, which is reported."""
    try:
        if "\0" in name or not is_whole_text(name):
            raise CaptionError("contains a zero byte or half a character; write the characters themselves")
        texts = texts_of(entry)
    except CaptionError as error:
        listing.problems.append(Problem(where, f'{error}: {{"caption": "..."}}'))
        return None
    listing.unused.update(unused_keys(entry, used=used))
    return texts


def _read_json(source: Path, listing: Listing) -> None:
    try:
        text = source.read_bytes().decode("utf-8-sig")
        content: Any = json.loads(text, object_pairs_hook=partial(_object, source=source, listing=listing))
    except UnicodeDecodeError as error:
        listing.problems.append(Problem(str(source), f"byte {error.start} is not UTF-8; save the file as UTF-8"))
        return
    except (ValueError, RecursionError) as error:
        listing.problems.append(Problem(str(source), f"is not valid JSON: {error}"))
        return
    except OSError as error:
        listing.problems.append(Problem(str(source), f"cannot be read: {error.strerror or error}"))
        return
    if not isinstance(content, dict):
        listing.problems.append(Problem(str(source), 'must be an object: {"image.jpg": {"caption": "..."}, ...}'))
        return
    for name in sorted(content):
        _take_entry(source, name, content[name], listing)
    for image, count in Counter(listing.images).items():
        if count > 1:
            listing.problems.append(Problem(f"{source}: {image}", f"has {count} entries; keep one"))


def _object(pairs: list[tuple[str, Any]], *, source: Path, listing: Listing) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            listing.problems.append(Problem(f"{source}: {name}", f"occurs {count} times; keep one"))
    return dict(pairs)


def _take_entry(source: Path, name: str, entry: Any, listing: Listing) -> None:
    if not isinstance(entry, dict):
        listing.problems.append(Problem(f"{source}: {name}", 'must be an object with a text: {"caption": "..."}'))
        return
    texts = _texts(f"{source}: {name!a}" if "\0" in name else f"{source}: {name}", name, entry, listing)
    if texts is None:
        return
    if Path(name).suffix.lower() not in EXTENSIONS:
        listing.problems.append(Problem(f"{source}: {name}", f"is not an image file ({_known_extensions()})"))
        return
    sibling = source.parent / name  # an absolute name stays absolute
    image = next((path for path in (sibling, Path(name)) if os.path.lexists(path)), sibling)
    listing.images.append(image)
    if texts:
        listing.captions[image] = texts


def _known_extensions() -> str:
    return ", ".join(sorted(EXTENSIONS))
