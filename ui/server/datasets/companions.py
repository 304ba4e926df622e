"""The references, masks and counterparts of pictures: the folders that hold them, and whose each file is."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.beside.masks import image_of
from toolkit.data.references import named_alike
from toolkit.data.scan_result import Findings
from ui.server.datasets.album import Album, Picture, picture_id
from ui.server.datasets.library import Dataset, Library
from ui.server.jobs.folders import job_id, stamp
from ui.server.jobs.settings import COUNTERPART, MASK, REFERENCE, folder_of
from ui.server.schemas import Companion, CompanionFolder
from ui.server.words import clean

_KEPT_S = 30.0  # a file in a subfolder comes and goes without a trace in the time of its folder
_MOST_KEPT = 32
_NAMES = {REFERENCE: ("control", "controls", "reference", "references"), MASK: ("mask", "masks")}
_Matches = Mapping[str, Path]


@dataclass(frozen=True)
class Beside:
    """A folder of files that belong to the pictures of a dataset.

    Attributes:
        role: what the files are to a picture, such as its mask.
        folder: folder of the files; the dataset's own for masks next to their pictures.
        job: name of the job that names the folder; empty if it was found by the names of folders and files.
    """

    role: str
    folder: Path
    job: str = ""


class Companions:
    """Finds what belongs to pictures, as training finds it: by name."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._kept: OrderedDict[tuple[str, Path], tuple[object, float, _Matches]] = OrderedDict()
        self._lock = threading.Lock()

    def folders(self, dataset: Dataset, album: Album) -> list[Beside]:
        """Where the companions of a dataset are: where its newest job with some says; of other kinds, by their names.

        Folders that this server may not use are left out.
        """
        named = next((found for found in self._named(dataset) if found), [])
        roles = {beside.role for beside in named}
        return [*named, *(beside for beside in self._laid_out(dataset, album) if beside.role not in roles)]

    def shown(self, dataset: Dataset, album: Album) -> list[CompanionFolder]:
        """Those folders for a page, with how many pictures lack something there."""
        names = set(album.pictures()) - set(_sidecars(dataset, album).values())
        return [
            CompanionFolder(
                role=beside.role,
                path=clean(str(beside.folder)),
                job=clean(beside.job),
                num_missing=len(names - self._matches(beside, dataset, album).keys()),
            )
            for beside in self.folders(dataset, album)
        ]

    def of(self, dataset: Dataset, album: Album, pictures: Iterable[Picture]) -> dict[str, list[Companion]]:
        """What belongs to each picture, by its name; of a missing file the folder alone."""
        found = [(beside, self._matches(beside, dataset, album)) for beside in self.folders(dataset, album)]
        masks = set(_sidecars(dataset, album).values())
        return {
            picture.name: []
            if picture.name in masks
            else [self._companion(beside, matches.get(picture.name)) for beside, matches in found]
            for picture in pictures
        }

    def _companion(self, beside: Beside, path: Path | None) -> Companion:
        folder = clean(str(beside.folder))
        if path is None:
            return Companion(role=beside.role, folder=folder, name="", file=None)
        root = self.library.roots.root_of(path.parent)
        file = None if root is None else f"{job_id(root, path.parent.resolve())}-{picture_id(path.name)}"
        return Companion(role=beside.role, folder=folder, name=clean(path.name), file=file)

    def _named(self, dataset: Dataset) -> Iterator[list[Beside]]:
        for job in self.library.registry.all():
            for partners in job.settings.partners:
                if self._place(partners.source) == dataset.folder:
                    name = job.settings.name or job.folder.name
                    places = [(role, self._place(folder)) for role, folder in partners.folders]
                    yield [Beside(role, place, name) for role, place in places if place is not None]

    def _place(self, written: str) -> Path | None:
        """The real place of a folder of a job; None if it leads out of the roots."""
        place = folder_of(written)
        return Path(os.path.realpath(place)) if self.library.roots.holds(place) else None

    def _laid_out(self, dataset: Dataset, album: Album) -> Iterator[Beside]:
        """Masks beside their pictures, `x.mask.png`; folders in or beside the dataset that are called so."""
        folder = dataset.folder
        if _sidecars(dataset, album):
            yield Beside(MASK, folder)
        for role, words in _NAMES.items():
            inside = (folder / word for word in words)
            beside = (folder.with_name(f"{folder.name}{joint}{word}") for word in words for joint in "_-")
            for place in (*inside, *beside):
                if place.is_dir() and self.library.roots.holds(place):
                    found = Beside(role, place)
                    if self._matches(found, dataset, album):
                        yield found
                        break

    def _matches(self, beside: Beside, dataset: Dataset, album: Album) -> _Matches:
        """The file of each picture that has one, by the name of the picture."""
        pictures = album.pictures()
        if beside.folder == dataset.folder:
            return {name: dataset.folder / mask for name, mask in _sidecars(dataset, album).items()}
        now, key = (stamp(beside.folder), album.version), (dataset.id, beside.folder)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[0] == now and time.monotonic() - kept[1] < _KEPT_S:
            return kept[2]
        paths = [dataset.folder / name for name in pictures]
        found = named_alike(beside.folder, paths, dataset.folder, Findings()) if beside.folder.is_dir() else {}
        matches = {image.name: files[0] for image, files in found.items() if files and self._is_ours(files[0])}
        with self._lock:
            self._kept[key] = (now, time.monotonic(), matches)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return matches

    def _is_ours(self, path: Path) -> bool:
        return not path.is_symlink() or self.library.roots.holds(path)


def report_options(folders: Iterable[Beside]) -> list[str]:
    """What `python -m toolkit.data report` is called with for them."""
    options = {REFERENCE: "--references", MASK: "--masks", COUNTERPART: "--counterparts"}
    return [f"{options[beside.role]}={beside.folder}" for beside in folders if beside.folder.is_dir()]


def _sidecars(dataset: Dataset, album: Album) -> dict[str, str]:
    """The masks that lie beside their pictures, `x.mask.png` of `x.jpg`, by the name of the picture."""
    names = album.pictures()
    # of ten thousand names hardly one is worth a closer look
    paths = [dataset.folder / name for name in names if "mask" in name.lower()]
    masks = {own.name: path.name for path in paths if (own := image_of(path)) is not None}
    return {name: masks[stem] for name in names if (stem := Path(name).stem) in masks} if masks else {}
