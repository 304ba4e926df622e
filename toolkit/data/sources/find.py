"""Lists the images of a dataset: those in a folder, in a list with their captions, or in tars or tables."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.image_files import HEIC_REMEDY
from toolkit.data.sources.folders import is_heic, list_folder
from toolkit.data.sources.listing import LISTS, SHARDS, Listing
from toolkit.data.sources.lists import read_list
from toolkit.data.sources.shards import read_shards, shards_in


def list_images(
    source: Path, *, leave_out: Collection[Path] = (), recursive: bool = True, caption_ext: str = ".txt"
) -> Listing:
    """The images of a folder, a JSON or JSONL list, a tar, or a table.

    A folder without images may hold tars, or the files of a table. Hidden files and folders, cache folders and the
    folders in `leave_out` are skipped. Links to folders are followed, each folder once. Paths in a list are absolute,
    or relative to the list or the working folder.

    Args:
        source: the folder or file.
        leave_out: folders below it whose images are something else.
        recursive: whether subfolders count.
        caption_ext: extension of captions in a tar.
    """
    listing = Listing()
    suffix = source.suffix.lower()
    if source.is_dir():
        list_folder(source, listing, leave_out=leave_out, recursive=recursive)
        if not listing.images and not listing.problems and (found := shards_in(source, listing)):
            read_shards(found, listing, caption_ext=caption_ext)
    elif source.is_file() and suffix in LISTS:
        read_list(source, listing)
    elif source.is_file() and suffix in SHARDS:
        read_shards([source], listing, caption_ext=caption_ext)
    elif source.exists():
        listing.problem(source, f"is neither a folder of images nor a {', '.join((*LISTS, *SHARDS))} file")
        return listing
    else:
        listing.problem(source, "no such folder or dataset file")
        return listing
    if not listing.images and not listing.problems:
        listing.problem(source, _nothing_in(listing))
    return listing


def _nothing_in(listing: Listing) -> str:
    what = f"contains no images ({', '.join(sorted(IMAGE_EXTENSIONS))})"
    if listing.nested:
        return f"{what}, but {len(listing.nested)} in its subfolders: set `recursive: true` to train on those"
    others = f", only {', '.join(path.name for path in listing.others[:3])}" if listing.others else ""
    remedy = f". {HEIC_REMEDY}" if any(is_heic(path) for path in listing.others) else ""
    return f"{what}{others}{remedy}"
