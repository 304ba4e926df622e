"""Lists the images in tars and tables, with their captions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.captions.texts import CaptionError, CaptionTexts, plain, texts_in, texts_of, unused_keys
from toolkit.data.sources.listing import SHARDS, Listing
from toolkit.data.sources.stored import Reader, members
from toolkit.data.sources.tables import TABLES, open_table, row_name
from toolkit.data.sources.tars import key_and_field
from toolkit.errors import UserError

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def shards_in(folder: Path, listing: Listing) -> list[Path]:
    """The tars of a folder, or the files of the table that Hugging Face's `datasets` has saved there; often none.

    A folder of several splits is a problem: which one is meant must be said.
    """
    if (folder / _SPLITS).is_file():
        splits = sorted(path.name for path in folder.iterdir() if (path / _STATE).is_file())
        listing.problem(folder, f"has the splits {', '.join(splits) or 'of a table, but not their folders'}: name one")
        return []
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if (folder / _STATE).is_file():
        return _of_state(folder, listing)
    for ending in SHARDS:
        if shards := [path for path in found if path.suffix.lower() == ending]:
            return shards
    return []


def read_shards(shards: Sequence[Path], listing: Listing, *, caption_ext: str) -> None:
    """Add the images of tars or tables.

    Args:
        shards: the files.
        listing: gets the images.
        caption_ext: extension of captions in a tar.
    """
    for shard in shards:
        try:
            if shard.suffix.lower() in TABLES:
                _read_table(shard, listing)
            else:
                _read_tar(shard, members(shard), listing, field=caption_ext.removeprefix("."))
        except OSError as error:
            listing.problem(shard, f"cannot be read: {error.strerror or error}")
        except (ValueError, UserError) as error:
            listing.problem(shard, str(error))


def _of_state(folder: Path, listing: Listing) -> list[Path]:
    """The files in the order in which `datasets` reads them."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        paths = [folder / entry["filename"] for entry in state["_data_files"]]
    except (ValueError, TypeError, KeyError) as error:
        listing.problem(folder / _STATE, f"does not name the files of a table ({error!r}). Save the data set again")
        return []
    for path in paths:
        if not path.is_file():
            listing.problem(path, "missing, and state.json names it. Save the data set again")
    return [path for path in paths if path.is_file()]


def _read_table(path: Path, listing: Listing) -> None:
    for row, content in enumerate(open_table(path).rows()):
        image = path / row_name(row)
        listing.images.append(image)
        _take(image, content, listing)


def _take(image: Path, content: Mapping[str, Any], listing: Listing) -> None:
    try:
        texts = texts_of(content)
    except CaptionError as error:
        listing.problem(image, str(error))
        return
    listing.unused.update(unused_keys(content))
    if texts:
        listing.captions[image] = texts


def _read_tar(path: Path, files: Mapping[str, Reader], listing: Listing, *, field: str) -> None:
    samples: dict[str, dict[str, str]] = {}
    for name in files:
        if not name.rpartition("/")[2].startswith("."):
            key, part = key_and_field(name)
            samples.setdefault(key, {})[part] = name
    for parts in samples.values():
        images = [name for part, name in parts.items() if f".{part}" in IMAGE_EXTENSIONS]
        text = next((one for one in (field, "txt", "json") if one in parts), None)
        if len(images) > 1:
            listing.problem(path, f"has several images of one name: {', '.join(images)}. Keep one")
        if not images:
            listing.unused.update(f".{part}" for part in parts)
            continue
        image = path / images[0]
        listing.images.append(image)
        if text is not None:
            _read_text(image, path / parts[text], files[parts[text]](), listing)
        listing.unused.update(f".{part}" for part, name in parts.items() if part != text and name not in images)


def _read_text(image: Path, where: Path, data: bytes, listing: Listing) -> None:
    try:
        text = data.decode("utf-8-sig")
        content = json.loads(text) if where.suffix.lower() == ".json" else text
    except UnicodeDecodeError as error:
        listing.problem(where, f"byte {error.start} is not UTF-8; save the file as UTF-8")
        return
    except (ValueError, RecursionError) as error:
        listing.problem(where, f"is not valid JSON: {error}")
        return
    if isinstance(content, Mapping):
        _take(image, content, listing)
        return
    try:
        texts = texts_in(content) if content is not text else CaptionTexts((plain(text),) if plain(text) else ())
    except CaptionError as error:
        listing.problem(where, str(error))
        return
    if texts:
        listing.captions[image] = texts
