"""The images in a folder, with its subfolders if asked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.sources.listing import METADATA, Listing
from toolkit.data.sources.lists import read_metadata

SKIPPED_FOLDERS = frozenset({"_clip_vision_cache", "_controls", "_latent_cache", "_t_e_cache"})
# Image formats that are not trained on: reported, since users do not expect it.
OTHER_PICTURES = frozenset({".gif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})


def list_folder(source: Path, listing: Listing, *, leave_out: Collection[Path], recursive: bool) -> None:
    """Add the images of a folder. Without `recursive`, those in subfolders count only if a `metadata.jsonl` names them.

    Args:
        source: the folder.
        listing: gets the images.
        leave_out: folders below it whose images are something else.
        recursive: whether subfolders count.
    """
    found = Listing()
    _walk(source, found, seen=_identities(leave_out) - _identities([source]))
    named = set(found.metadata)
    for path in found.images:
        is_used = recursive or path.parent == source or path in named
        (listing.images if is_used else listing.nested).append(path)
    listing.others += [path for path in found.others if recursive or path.parent == source]
    listing.metadata |= found.metadata
    listing.unused.update(found.unused)
    listing.problems += found.problems
    depth = len(source.parts)
    listing.images.sort(key=lambda path: "/".join(path.parts[depth:]))


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
        listing.problem(folder, f"cannot be listed: {error.strerror or error}")
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
        elif ending in IMAGE_EXTENSIONS:
            listing.images.append(folder / entry.name)
        elif ending in OTHER_PICTURES:
            listing.others.append(folder / entry.name)
        elif entry.name == METADATA:
            read_metadata(folder / entry.name, listing)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
