"""The datasets under the roots: found, made, and put away."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.paths import IMAGE_EXTENSIONS
from toolkit.data.sources.folders import SKIPPED_FOLDERS
from toolkit.extension import REPOSITORY
from toolkit.files import move
from ui.server.actions.trash import place_in_trash
from ui.server.datasets.album import Album
from ui.server.datasets.names import CAPTION_EXTENSION, checked_name, extension_of, folded, stem_of
from ui.server.jobs.folders import MARKS, FolderFinder, is_walked, job_id
from ui.server.jobs.registry import Registry
from ui.server.refusal import Refusal

OWN = ".dataset"  # what the page keeps in a dataset; trainers skip hidden folders
HOME = "datasets"  # folder of a root in which new ones are made
_FIND_S = 2.0
_MOST_ALBUMS = 16


@dataclass(frozen=True)
class Contents:
    """What the names in a folder tell.

    Attributes:
        num_pictures: in the folder itself.
        num_captioned: with a caption file.
        cover: name of the first picture; None if there is none.
    """

    num_pictures: int
    num_captioned: int
    cover: str | None


@dataclass(frozen=True)
class Dataset:
    """A folder of pictures."""

    id: str
    root: Path
    folder: Path
    contents: Contents


class Library:
    """Every folder under the roots that holds pictures, or that was made here to hold them."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.roots = registry.roots
        self._finder = FolderFinder(registry.roots, look_for_pictures, has_roots=True)
        self._found: dict[str, Dataset] = {}
        self._looked = -_FIND_S
        self._albums: OrderedDict[str, Album] = OrderedDict()
        self._lock = threading.Lock()

    def all(self) -> list[Dataset]:
        """Every dataset, in the order of their paths."""
        return sorted(self._look(is_new=True).values(), key=lambda dataset: str(dataset.folder))

    def get(self, id_: str) -> Dataset:
        """A dataset.

        Raises:
            Refusal: there is none of this id.
        """
        dataset = self._found.get(id_) or self._look(is_new=True).get(id_)
        if dataset is None or not dataset.folder.is_dir():
            raise Refusal(404, "Dataset not found. Its folder may have been moved or deleted.")
        return dataset

    def album(self, id_: str) -> Album:
        """The pictures of a dataset; raises as `get` does."""
        dataset = self.get(id_)
        with self._lock:
            album = self._albums.pop(id_, None) or Album(dataset.folder, self.roots)
            self._albums[id_] = album
            while len(self._albums) > _MOST_ALBUMS:
                self._albums.popitem(last=False)
        return album

    def make(self, name: str, root: int) -> Dataset:
        """A new, empty dataset in a root.

        Raises:
            Refusal: the name is not one, or is taken, or there is no such root.
        """
        name = checked_name(name.strip())
        if root >= len(self.roots.folders):
            raise Refusal(422, "There is no such folder. Reload the page.", "root")
        home = self.roots.folders[root] / HOME
        self.roots.require(home / name, "name")
        taken = next((path.name for path in _inside(home) if folded(path.name) == folded(name)), None)
        if taken is not None:
            raise Refusal(409, f'There is already a folder "{taken}" in {home}. Choose another name.', "name")
        (home / name / OWN).mkdir(parents=True)
        self._look(is_new=True)
        return self.get(job_id(self.roots.folders[root], home / name))

    def delete(self, id_: str) -> None:
        """Move a dataset to the trash of its root.

        Raises:
            Refusal: it holds more than pictures, or a run may be reading it.
        """
        dataset = self.get(id_)
        folder = dataset.folder
        if folder == dataset.root:
            raise Refusal(409, f"{folder} is one of the folders that this server was started with. Delete it by hand.")
        inner = [it.name for it in _inside(folder) if it.is_dir() and it.name not in {OWN, *SKIPPED_FOLDERS}]
        if inner:
            what = f'{folder} contains other folders, such as "{inner[0]}". Move them away, or delete it by hand.'
            raise Refusal(409, what)
        with self.registry.lock:
            reader = next((job for job in self.registry.all() if job.is_live and _reads(job.shown_text, folder)), None)
            if reader is not None:
                what = f'The job "{reader.settings.name or reader.folder.name}" is training on it. Stop that job first.'
                raise Refusal(409, what)
            move(folder, place_in_trash(dataset.root, folder.name))
        with self._lock:
            self._albums.pop(id_, None)
        self._look(is_new=True)

    def _look(self, *, is_new: bool = False) -> dict[str, Dataset]:
        with self._lock:
            if is_new or time.monotonic() - self._looked > _FIND_S:
                found = [
                    Dataset(job_id(root, folder), root, folder, contents)
                    for folder, contents in self._finder.find().items()
                    if (root := self.roots.root_of(folder)) is not None and folder.is_relative_to(root)
                ]
                self._found = {dataset.id: dataset for dataset in found}
                self._looked = time.monotonic()
            return self._found


def look_for_pictures(folder: str) -> tuple[tuple[str, ...], Contents | None]:
    """The folders in a folder, and what its names tell of pictures; None without any, and for a job's output."""
    inner, pictures, captions, is_ours = [], [], set(), False
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name in MARKS:
                return (), None
            extension = extension_of(name)
            if name == OWN:
                is_ours = True
            elif name.startswith("."):
                continue
            elif extension in IMAGE_EXTENSIONS:
                pictures.append(name)
            elif extension == CAPTION_EXTENSION:
                captions.add(folded(stem_of(name)))
            elif name not in SKIPPED_FOLDERS and is_walked(entry):
                inner.append(name)
    if not pictures and not is_ours:
        return tuple(sorted(inner)), None
    num_captioned = sum(folded(stem_of(name)) in captions or folded(name) in captions for name in pictures)
    return tuple(sorted(inner)), Contents(len(pictures), num_captioned, min(pictures, default=None))


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _reads(text: str, folder: Path) -> bool:
    """Whether a job text names a folder: in full, or from where jobs are started."""
    names = [str(folder), folder.as_posix()]
    if folder.is_relative_to(REPOSITORY):
        names.append(folder.relative_to(REPOSITORY).as_posix())
    return any(name in text for name in names)
