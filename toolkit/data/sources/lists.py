"""Lists of images with their captions: JSON as ai-toolkit and kohya's trainer write it, and JSON lines."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.config.reading.parse import is_whole_text
from toolkit.data.captions.texts import CaptionError, CaptionTexts, texts_of, unused_keys
from toolkit.data.sources.listing import Listing

FILE_NAMES = ("file_name", "image_path", "image", "path", "file")
_LINE = 'must be an object with a file name and a text: {"file_name": "a.jpg", "text": "..."}'


def read_list(source: Path, listing: Listing) -> None:
    """Add the images of a list.

    JSON is `{path: {"caption": "..."}}`; kohya's leaves out the extensions of the images. JSON lines are objects that
    name their file in one of `FILE_NAMES`.
    """
    if source.suffix.lower() == ".jsonl":
        for where, name, texts in _entries(source, listing):
            _add(source, where, name, texts, listing)
    else:
        _read_json(source, listing)
    for image, count in Counter(listing.images).items():
        if count > 1:
            listing.problem(f"{source}: {image}", f"has {count} entries; keep one")


def read_metadata(source: Path, listing: Listing) -> None:
    """Read captions in the format of Hugging Face's ImageFolder: a line `{"file_name": ..., "text": ...}` per image."""
    for _, name, texts in _entries(source, listing):
        if texts:
            listing.metadata[source.parent / name] = texts


def _entries(source: Path, listing: Listing) -> Iterator[tuple[str, str, CaptionTexts]]:
    """Where each line is, the file that it names, and its captions; lines that are wrong are problems."""
    text = _text(source, listing)
    for number, line in enumerate(text.splitlines() if text else (), 1):
        if not line.strip():
            continue
        where = f"{source}: line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            listing.problem(where, f"is not valid JSON: {error}")
            continue
        key = next((key for key in FILE_NAMES if entry.get(key)), None) if isinstance(entry, dict) else None
        if key is None or not isinstance(entry[key], str):
            listing.problem(where, _LINE)
        elif (texts := _texts(where, entry[key], entry, listing, used=(key,))) is not None:
            yield where, entry[key], texts


def _read_json(source: Path, listing: Listing) -> None:
    text = _text(source, listing)
    if text is None:
        return
    try:
        content: Any = json.loads(text, object_pairs_hook=partial(_object, source=source, listing=listing))
    except (ValueError, RecursionError) as error:
        listing.problem(source, f"is not valid JSON: {error}")
        return
    if not isinstance(content, dict):
        listing.problem(source, 'must be an object: {"image.jpg": {"caption": "..."}, ...}')
        return
    for name in sorted(content):
        where = f"{source}: {name!a}" if "\0" in name else f"{source}: {name}"
        if not isinstance(content[name], dict):
            listing.problem(where, 'must be an object with a text: {"caption": "..."}')
        elif (texts := _texts(where, name, content[name], listing)) is not None:
            _add(source, where, name, texts, listing)


def _object(pairs: list[tuple[str, Any]], *, source: Path, listing: Listing) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            listing.problem(f"{source}: {name}", f"occurs {count} times; keep one")
    return dict(pairs)


def _add(source: Path, where: str, name: str, texts: CaptionTexts, listing: Listing) -> None:
    image = _image(source, name)
    if image is None:
        listing.problem(where, f"is not an image file ({', '.join(sorted(IMAGE_EXTENSIONS))})")
        return
    listing.images.append(image)
    if texts:
        listing.captions[image] = texts


def _image(source: Path, name: str) -> Path | None:
    """The file that a list names, with or without its extension."""
    has_extension = Path(name).suffix.lower() in IMAGE_EXTENSIONS
    names = [name] if has_extension else [f"{name}{extension}" for extension in sorted(IMAGE_EXTENSIONS)]
    exists: Callable[[Path], bool] = os.path.lexists
    paths = [place / one for one in names for place in (source.parent, Path())]  # an absolute name stays absolute
    found = next((path for path in paths if name and exists(path)), None)
    return found or (source.parent / name if has_extension else None)


def _texts(
    where: str, name: str, entry: dict[str, Any], listing: Listing, *, used: tuple[str, ...] = ()
) -> CaptionTexts | None:
    """The captions of an entry; None if they are a problem, which is reported."""
    try:
        if "\0" in name or not is_whole_text(name):
            raise CaptionError("contains a zero byte or half a character; write the characters themselves")
        texts = texts_of(entry)
    except CaptionError as error:
        listing.problem(where, f'{error}: {{"caption": "..."}}')
        return None
    listing.unused.update(unused_keys(entry, used=used))
    return texts


def _text(source: Path, listing: Listing) -> str | None:
    try:
        return source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        listing.problem(source, f"byte {error.start} is not UTF-8; save the file as UTF-8")
    except OSError as error:
        listing.problem(source, f"cannot be read: {error.strerror or error}")
    return None
