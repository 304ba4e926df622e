"""Pictures and captions out of a zip file: all that are in it, or none."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.captions.files import MAX_BYTES
from toolkit.data.image_files import MAX_FILE_BYTES
from toolkit.files import delete_file, disk, sync_folder, temporary_path, write_chunks
from ui.server.datasets.album import Album
from ui.server.datasets.names import CAPTION_EXTENSION, checked_file_name, extension_of, folded, stem_of
from ui.server.datasets.upload import (
    LARGEST_ZIP,
    MOST_FILES,
    arriving,
    check_content,
    check_magic,
    require_free,
    require_room,
    sync,
    twin_words,
)
from ui.server.refusal import Refusal
from ui.server.schemas import Problem, Unzipped
from ui.server.words import clean

LARGEST_TOTAL = 20_000_000_000
MOST_RATIO = 200  # of the size to the packed size; pictures hardly shrink
_SMALL = 1_000_000  # bytes of a file whose ratio does not matter
_LARGEST_LIST = 64_000_000  # bytes of the list of names, which is held in memory several times over
_CHUNK = 1 << 20
_NAMED = 20


def unzip(album: Album, own: Path, chunks: Iterator[bytes], length: int | None) -> Unzipped:
    """Put the pictures and captions of a zip file into a dataset, whatever folders they are in there.

    Raises:
        Refusal: the file is not a zip file, names places outside, links, is a bomb, or holds files that the dataset
            has; or as `arriving` does. Nothing was added.
    """
    with arriving(own, chunks, extension=".zip", limit=LARGEST_ZIP, length=length) as sent, sent.open("rb") as file:
        entries = _entries(file)
        wanted, skipped = _wanted(entries)
        require_free(album, [])
        _require_names(album, wanted)
        require_room(own, sum(entry.file_size for entry in wanted.values()))
        folder = temporary_path(own / "incoming" / "zip")
        folder.mkdir()
        try:
            _extract(file, wanted, folder)
            with album.lock:
                _require_names(album, wanted)
                _place(folder, wanted, album)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    num_captions = sum(extension_of(name) == CAPTION_EXTENSION for name in wanted)
    return Unzipped(
        num_pictures=len(wanted) - num_captions,
        num_captions=num_captions,
        skipped=list(map(clean, skipped[:_NAMED])),
        num_skipped=len(skipped),
    )


def _entries(file: BinaryIO) -> list[zipfile.ZipInfo]:
    try:
        if _list_bytes(file) > _LARGEST_LIST:
            raise Refusal(413, f"The zip file contains too many files; {MOST_FILES:,} at most. Split it.")
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise Refusal(422, f"The file cannot be read as a zip file: {clean(str(error))}.") from error
    if len(entries) > MOST_FILES:
        raise Refusal(413, f"The zip file contains {len(entries):,} files; {MOST_FILES:,} at most. Split it.")
    return entries


def _list_bytes(file: BinaryIO) -> int:
    """Length of the list of entries as the end of the file gives it, which is what reading it would take."""
    size = file.seek(0, 2)
    start = max(0, size - 65_557)  # the end record, behind which a comment may stand
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < 22:
        raise zipfile.BadZipFile("its list of files is missing, so it is probably cut short")
    found = int(struct.unpack_from("<L", tail, place + 12)[0])
    if place >= 20 and tail[place - 20 : place - 16] == b"PK\x06\x07":
        offset = int(struct.unpack_from("<Q", tail, place - 12)[0])
        file.seek(min(offset, size))
        record = file.read(56)
        if len(record) == 56 and record.startswith(b"PK\x06\x06"):
            found = max(int(struct.unpack_from("<Q", record, 40)[0]), 0)
        else:
            found = size
    file.seek(0)
    return found


def _wanted(entries: list[zipfile.ZipInfo]) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The pictures and captions by the names that they get, and the files that are neither."""
    wanted: dict[str, zipfile.ZipInfo] = {}
    taken: dict[str, str] = {}
    skipped: list[str] = []
    problems: list[str] = []
    total = 0
    for entry in entries:
        shown = clean(entry.filename[:100])
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or {"\\", ":"} & set(entry.filename):
            raise Refusal(422, f'The zip file contains a path that leads outside it: "{shown}". Nothing was added.')
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Refusal(422, f'The zip file contains a link: "{shown}". Put the file itself into it.')
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            raise Refusal(422, "The zip file is encrypted. Unpack it and upload its files.")
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        extension = extension_of(path.name)
        if hidden or (extension not in IMAGE_EXTENSIONS and extension != CAPTION_EXTENSION):
            skipped.append(entry.filename)
            continue
        total += entry.file_size
        if entry.file_size > _SMALL and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
            raise Refusal(422, f'"{shown}" would unpack to {entry.file_size / 1e6:,.0f} MB out of very few bytes.')
        limit = MAX_BYTES if extension == CAPTION_EXTENSION else MAX_FILE_BYTES
        if entry.file_size > limit or total > LARGEST_TOTAL:
            raise Refusal(413, f'"{shown}" is too large, or all files of the zip file together are.')
        try:
            name = checked_file_name(path.name, "zip")
        except Refusal as refusal:
            problems += [problem.what for problem in refusal.problems]
            continue
        keys = [folded(name)] + ([] if extension == CAPTION_EXTENSION else [f"{folded(stem_of(name))}/"])
        twin = next((taken[key] for key in keys if key in taken), None)
        if twin is not None:
            problems.append(f"In the zip file: {twin_words(name, twin)}")
            continue
        taken.update(dict.fromkeys(keys, name))
        wanted[name] = entry
    _refuse_if(problems)
    if not wanted:
        raise Refusal(422, "The zip file contains no pictures or captions.")
    return wanted, skipped


def _require_names(album: Album, wanted: dict[str, zipfile.ZipInfo]) -> None:
    with album.lock:
        found = [(name, album.twin(name)) for name in wanted]
        _refuse_if([twin_words(name, taken) for name, taken in found if taken is not None])
        if album.num_names + len(wanted) > MOST_FILES:
            raise Refusal(409, f"A dataset can hold {MOST_FILES:,} files at most. Create another dataset.")


def _extract(file: BinaryIO, wanted: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    """Unpack what is wanted, and look at it."""
    problems: list[str] = []
    with zipfile.ZipFile(file) as archive:
        for name, entry in wanted.items():
            try:
                write_chunks(folder / name, _pieces(archive, entry, name))
                check_content(folder / name, name)
                sync(folder / name)
            except Refusal as refusal:
                problems += [f"{name}: {problem.what}" for problem in refusal.problems]
            except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
                problems.append(f"{name} cannot be unpacked: {clean(str(error))}.")
            if len(problems) >= _NAMED:
                break
    _refuse_if(problems)


def _place(folder: Path, names: Iterable[str], album: Album) -> None:
    """Move what was unpacked to where it belongs; nothing stays there if one of them cannot be moved."""
    placed: list[str] = []
    try:
        for name in names:
            disk.rename(folder / name, album.folder / name)
            placed.append(name)
        sync_folder(album.folder)
    except OSError:
        for name in placed:
            delete_file(album.folder / name)
        raise
    finally:
        album.forget()


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
    with archive.open(entry) as packed:
        is_first = True
        while chunk := packed.read(_CHUNK):
            if is_first:
                check_magic(chunk[:32], extension_of(name))
                is_first = False
            yield chunk


def _refuse_if(problems: list[str]) -> None:
    if problems:
        more = f"And {len(problems) - _NAMED:,} more like these." if len(problems) > _NAMED else ""
        words = [*problems[:_NAMED], *([more] if more else [])]
        raise Refusal(409, [Problem(severity="error", where="zip", what=clean(what)) for what in words])
