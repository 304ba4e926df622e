"""The pictures of one folder with their captions, read again when something may have changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.captions.files import CaptionFolder, read_caption
from toolkit.data.captions.texts import CaptionError, CaptionTexts
from toolkit.data.sources.listing import METADATA, Listing
from toolkit.data.sources.lists import read_metadata
from toolkit.files import write_text
from ui.server.datasets.names import CAPTION_EXTENSION, extension_of, folded, stem_of
from ui.server.jobs.folders import stamp
from ui.server.refusal import Refusal
from ui.server.roots import Roots

_LOOK_S = 30.0  # a picture may be written over outside without a trace in the time of its folder
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Caption:
    """What is written about a picture.

    Attributes:
        text: as it is trained with; empty where there is none, and where it cannot be read.
        tag: changes with the content of its file; empty where there is no file.
        trouble: why it cannot be read; empty if nothing is wrong.
        is_listed: the caption is in `metadata.jsonl`; a caption file would take precedence.
    """

    text: str = ""
    tag: str = ""
    trouble: str = ""
    is_listed: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of a folder.

    Attributes:
        name: of its file.
        id: of the picture within its folder.
        num_bytes: of its file.
        stamp: changes with its file.
        caption_name: of its caption file; None if there is none.
        trouble: why its caption file cannot be told.
    """

    name: str
    id: str
    num_bytes: int
    stamp: _Stamp
    caption_name: str | None = None
    trouble: str = ""


class Album:
    """The pictures that lie directly in a folder, by name. `lock` is held while they are changed.

    Attributes:
        version: grows with each look at the folder.
    """

    def __init__(self, folder: Path, roots: Roots) -> None:
        self.folder = folder
        self.roots = roots
        self.lock = threading.RLock()
        self._pictures: dict[str, Picture] = {}
        self._by_id: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._names_stamp: _Stamp | None = None
        self._listed: dict[Path, CaptionTexts] = {}
        self._captions: dict[str, tuple[_Stamp, Caption]] = {}
        self._stamp: _Stamp | None = None
        self._looked = 0.0
        self.version = 0

    def pictures(self) -> dict[str, Picture]:
        """Every picture by its name.

        Raises:
            Refusal: the folder is gone.
        """
        with self.lock:
            found = stamp(self.folder)
            if found is None:
                raise Refusal(404, f"{self.folder} no longer exists. It was moved or deleted outside this page.")
            if found != self._stamp or time.monotonic() - self._looked > _LOOK_S:
                self._look()
                self._stamp, self._looked = found, time.monotonic()
            return self._pictures

    def get(self, id_: str) -> Picture:
        """A picture by its id.

        Raises:
            Refusal: there is none, or the folder is gone.
        """
        with self.lock:
            pictures = self.pictures()
            picture = pictures.get(self._by_id.get(id_, ""))
        if picture is None:
            raise Refusal(404, "Picture not found. It may have been moved or deleted. Reload the page.")
        return picture

    def path(self, picture: Picture) -> Path:
        """Where a picture is, links on its way followed.

        Raises:
            Refusal: it is gone, or a link leads out of the roots.
        """
        real = Path(os.path.realpath(self.folder / picture.name))
        if not self.roots.holds(real) or not real.is_file():
            raise Refusal(404, f"{picture.name} is no longer there. Reload the page.")
        return real

    def caption_path(self, picture: Picture) -> Path | None:
        """The caption file of a picture; None if there is none."""
        return None if picture.caption_name is None else self.folder / picture.caption_name

    def is_captioned(self, picture: Picture) -> bool:
        """Whether a caption is there, which may be blank; reads no file."""
        return picture.caption_name is not None or self.folder / picture.name in self._listed

    def caption(self, picture: Picture, *, is_fresh: bool = False) -> Caption:
        """The caption of a picture.

        Args:
            picture: of this folder.
            is_fresh: read its file even if its time has not changed.
        """
        if picture.trouble:
            return Caption(trouble=picture.trouble)
        path = self.caption_path(picture)
        found = None if path is None else stamp(path)
        if path is None or found is None:
            texts = self._listed.get(self.folder / picture.name)
            return Caption(texts.long[0], is_listed=True) if texts is not None and texts.long else Caption()
        known = self._captions.get(path.name)
        if known is None or known[0] != found or is_fresh:
            known = self._captions[path.name] = (found, self._read(path))
        return known[1]

    def write(self, picture: Picture, text: str) -> Caption:
        """Write the caption file of a picture, whole. The caller holds `lock`, for all threads that write for it."""
        if picture.trouble:
            raise Refusal(409, picture.trouble)
        path = self.caption_path(picture) or self.folder / f"{stem_of(picture.name)}{CAPTION_EXTENSION}"
        before = stamp(self.folder)
        write_text(path, text)
        now = replace(picture, caption_name=path.name)
        if self._stamp == before:  # nothing else has changed: no need to look at thousands of files for one
            self._pictures[picture.name] = now
            self._stamp = stamp(self.folder)
        return self.caption(now, is_fresh=True)

    def twin(self, name: str) -> str | None:
        """A file of the folder that some system would take for one of this name, or that would share its caption."""
        with self.lock:
            found = stamp(self.folder)
            if found is None or found != self._names_stamp:
                self._names = {}
                with os.scandir(self.folder) as entries:
                    for entry in entries:
                        self._note(entry.name)
                self._names_stamp = found
            same = self._names.get(folded(name))
            if same is not None or extension_of(name) == CAPTION_EXTENSION:
                return same
            return self._names.get(_shared_caption(name))

    @property
    def num_names(self) -> int:
        """How many names are taken, as `twin` has seen them."""
        return len(self._names)

    def added(self, name: str) -> None:
        """Take note of a file that was just put there, so that the folder is not read again for each of thousands."""
        with self.lock:
            self._note(name)
            self._names_stamp = stamp(self.folder)

    def forget(self) -> None:
        """Look again the next time."""
        self._stamp = None

    def _look(self) -> None:
        pictures: dict[str, Picture] = {}
        captions: set[str] = set()
        has_list = False
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                has_list |= entry.name == METADATA
                extension = extension_of(entry.name)
                if extension == CAPTION_EXTENSION:
                    captions.add(entry.name)
                elif extension in IMAGE_EXTENSIONS and (picture := self._picture(entry)) is not None:
                    pictures[entry.name] = picture
        self._pictures = dict(sorted(_with_captions(pictures, captions, self.folder)))
        self._by_id = {picture.id: name for name, picture in self._pictures.items()}
        self.version += 1
        self._listed = self._read_list() if has_list else {}
        self._captions = {name: found for name, found in self._captions.items() if name in captions}

    def _note(self, name: str) -> None:
        self._names[folded(name)] = name
        if extension_of(name) in IMAGE_EXTENSIONS:
            self._names[_shared_caption(name)] = name

    def _picture(self, entry: os.DirEntry[str]) -> Picture | None:
        try:
            if entry.is_symlink() and not self.roots.holds(Path(entry.path)):
                return None
            if not entry.is_file():
                return None
            status = entry.stat()
        except OSError:  # deleted meanwhile, or a link that leads to itself
            return None
        found = (status.st_ino, status.st_size, status.st_mtime_ns)
        return Picture(entry.name, picture_id(entry.name), status.st_size, found)

    def _read(self, path: Path) -> Caption:
        if path.is_symlink() and not self.roots.holds(path):
            return Caption(trouble=f"{path.name} is a link to a place outside the folders this server may use.")
        try:
            text = read_caption(path)
        except CaptionError as error:
            return Caption(tag=tag_of(str(stamp(path))), trouble=f"{path.name} {error}.")
        except OSError:  # deleted meanwhile
            return Caption()
        return Caption(text, tag_of(text))

    def _read_list(self) -> dict[Path, CaptionTexts]:
        path = self.folder / METADATA
        if not self.roots.holds(path):
            return {}
        listing = Listing()
        read_metadata(path, listing)
        return dict(listing.metadata)


def picture_id(name: str) -> str:
    """The id of a picture within its folder."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def tag_of(text: str) -> str:
    """Changes with a caption."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _with_captions(
    pictures: Mapping[str, Picture], captions: Collection[str], folder: Path
) -> Iterator[tuple[str, Picture]]:
    """The pictures with their caption files, as training finds them: by the exact name first, which takes no look."""
    known, finder = {folded(name) for name in captions}, CaptionFolder(folder)
    for name, picture in pictures.items():
        own = f"{stem_of(name)}{CAPTION_EXTENSION}"
        if own in captions:
            # made by hand: `replace` takes longer than all else for one of ten thousand pictures
            picture = Picture(name, picture.id, picture.num_bytes, picture.stamp, own)
        elif folded(own) in known or folded(name + CAPTION_EXTENSION) in known:
            try:
                found = finder.find(folder / name, CAPTION_EXTENSION)
                picture = replace(picture, caption_name=found.name if found else None)
            except CaptionError as error:
                picture = replace(picture, trouble=f"{name} {error}.")
        yield name, picture


def _shared_caption(name: str) -> str:
    """Equal for pictures that have the same caption file; no name of a file contains a slash."""
    return f"{folded(stem_of(name))}/"
