"""The reference images of a dataset: found by name in its control folders, measured, and fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.cards import ReferenceLimits
from toolkit.config.dataset import DatasetConfig
from toolkit.data.buckets import Size
from toolkit.data.examples import Reference
from toolkit.data.image_files import EXTENSIONS, IMAGES, ImageError, ImageInfo
from toolkit.data.listing import list_images
from toolkit.data.reference_sizes import fit_reference, reference_problem
from toolkit.data.scan_result import Findings
from toolkit.errors import Problem

Inspected = Mapping[Path, ImageInfo | ImageError]


@dataclass(frozen=True)
class ReferenceRules:
    """How reference images are seen.

    Attributes:
        limits: of the model.
        divisor: sides become multiples of this.
        match_target: scaled to as many pixels as the image that they belong to.
    """

    limits: ReferenceLimits
    divisor: int
    match_target: bool = False

    def fit(
        self,
        infos: Sequence[tuple[Path, ImageInfo]],
        target: Size,
        *,
        background: tuple[int, int, int],
        flip_x: bool = False,
        flip_y: bool = False,
    ) -> tuple[Reference, ...]:
        """The references of one image of size `target`, each at its own size."""
        return tuple(
            Reference(
                path=path,
                content_hash=info.content_hash,
                fit=fit_reference(
                    (info.width, info.height),
                    limits=self.limits,
                    divisor=self.divisor,
                    num_references=len(infos),
                    target=target if self.match_target else None,
                ),
                flip_x=flip_x,
                flip_y=flip_y,
                background=background,
            )
            for path, info in infos
        )


def match_references(
    dataset: DatasetConfig, images: Sequence[Path], findings: Findings
) -> dict[Path, tuple[Path, ...]]:
    """The reference files of each image, in the order of the control folders.

    A reference stands at the same place below its folder as the image below its own, whatever its extension; where
    there is none, one of that name anywhere below the folder counts if it is the only one. Missing and ambiguous
    references are problems, unless the dataset allows them to be missing.
    """
    found: dict[Path, list[Path]] = {image: [] for image in images}
    for folder in dataset.control_folders:
        listing = list_images(folder)
        findings.problems += listing.problems
        if listing.problems:
            continue
        by_place = _by_name((path.relative_to(folder).with_suffix("").as_posix(), path) for path in listing.images)
        by_stem = _by_name((path.stem, path) for path in listing.images)
        missing = []
        for image in images:
            place = _place(image, dataset.folder_path)
            candidates = by_place.get(place) or by_stem.get(image.stem, [])
            if len(candidates) > 1:
                names = ", ".join(str(path.relative_to(folder)) for path in candidates)
                findings.problem(image, f"has several references in {folder}: {names}. Keep one")
            elif candidates:
                found[image].append(candidates[0])
            else:
                missing.append(image)
                if not dataset.allow_missing_control:
                    findings.problem(image, _what_is_missing(image, folder))
        if dataset.allow_missing_control:
            findings.notice(dataset.folder_path, f"without a reference in {folder}", missing)
    return {image: tuple(paths) for image, paths in found.items()}


def usable_references(
    dataset: DatasetConfig,
    matched: Mapping[Path, Sequence[Path]],
    inspected: Inspected,
    limits: ReferenceLimits,
    findings: Findings,
) -> dict[Path, tuple[tuple[Path, ImageInfo], ...]]:
    """The measured references of every image whose references can all be used; the others are problems.

    With `skip_unreadable`, images with an unreadable reference are left out and mentioned instead.
    """
    usable: dict[Path, tuple[tuple[Path, ImageInfo], ...]] = {}
    skipped = []
    for image, paths in matched.items():
        infos = [(path, info) for path in paths if isinstance(info := inspected[path], ImageInfo)]
        if len(infos) == len(paths):
            usable[image] = tuple(infos)
        else:
            skipped.append(image)
    for path in dict.fromkeys(path for paths in matched.values() for path in paths):
        info = inspected[path]
        if isinstance(info, ImageInfo):
            if what := reference_problem((info.width, info.height), limits):
                findings.problem(path, what)
        elif not dataset.skip_unreadable:
            findings.problem(path, f"cannot be read: {info}. Mend or remove it, or set `skip_unreadable: true`")
    if dataset.skip_unreadable:
        findings.notice(dataset.folder_path, "skipped, for a reference cannot be read", skipped)
        if skipped and not usable:
            findings.problem(dataset.folder_path, "holds no image whose references can be read")
    return usable


def measure_references(
    paths: Sequence[Path], limits: ReferenceLimits
) -> tuple[list[tuple[Path, ImageInfo]], list[Problem]]:
    """The references of a sample with their sizes, and why some of them cannot be used."""
    infos, problems = [], []
    for path in paths:
        try:
            info = IMAGES.inspect(path)
        except ImageError as error:
            problems.append(Problem(str(path), f"cannot be read: {error}"))
            continue
        infos.append((path, info))
        if what := reference_problem((info.width, info.height), limits):
            problems.append(Problem(str(path), what))
    return infos, problems


def _by_name(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for name, path in named:
        paths.setdefault(name, []).append(path)
    return paths


def _place(image: Path, root: Path) -> str:
    """Where an image stands below its dataset's folder, or below that of a JSON file, without extension."""
    base = root if root.is_dir() else root.parent
    place = image.relative_to(base) if image.is_relative_to(base) else Path(image.name)
    return place.with_suffix("").as_posix()


def _what_is_missing(image: Path, folder: Path) -> str:
    looked_for = f"{image.stem}.({'|'.join(sorted(extension[1:] for extension in EXTENSIONS))})"
    return (
        f"has no reference in {folder} (looked for {looked_for}). "
        "Add it, or set `allow_missing_control: true` to train the image without it"
    )
