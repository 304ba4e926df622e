"""Finds the reference images of a dataset by name in its control folders, measures them and fits their sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.cards import ReferenceLimits
from toolkit.config.dataset import DatasetConfig
from toolkit.data.buckets import Fit, Size
from toolkit.data.examples import Reference
from toolkit.data.image_files import EXTENSIONS, IMAGES, ImageError, ImageInfo
from toolkit.data.scan_result import Findings
from toolkit.data.sources.find import list_images
from toolkit.errors import Problem

Inspected = Mapping[Path, ImageInfo | ImageError]


@dataclass(frozen=True)
class ReferenceRules:
    """How reference images are resized for the model.

    Attributes:
        limits: the model's limits on references.
        divisor: sides become multiples of this.
        match_target: whether references are scaled to as many pixels as the image that they belong to.
        num_controls: number of folders before those of the references, see `toolkit.data.controls`.
    """

    limits: ReferenceLimits
    divisor: int
    match_target: bool = False
    num_controls: int = 0

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
    dataset: DatasetConfig, images: Sequence[Path], findings: Findings, *, num_controls: int = 0
) -> dict[Path, tuple[Path, ...]]:
    """The reference files of each image, in the order of the control folders after the first `num_controls`.

    See `match_folder`. Missing references are problems unless the dataset allows them.
    """
    found: dict[Path, list[Path]] = {image: [] for image in images}
    for folder in dataset.control_folders[num_controls:]:
        for image, path in match_folder(dataset, folder, images, findings).items():
            found[image].append(path)
    return {image: tuple(paths) for image, paths in found.items()}


def match_folder(
    dataset: DatasetConfig, folder: Path, images: Sequence[Path], findings: Findings, *, what: str = "reference"
) -> dict[Path, Path]:
    """The file in a folder that belongs to each image; images without one are left out.

    Ambiguous files are problems; missing ones, too, unless the dataset allows them.
    """
    if not dataset.allow_missing_control:
        lacking = partial(_what_is_missing, folder=folder, what=what)
        return one_each(dataset, folder, images, findings, several=f"{what}s", lacking=lacking)[0]
    found, missing = one_each(dataset, folder, images, findings, several=f"{what}s")
    findings.notice(dataset.folder_path, f"without a {what} in {folder}", missing)
    return found


def one_each(
    dataset: DatasetConfig,
    folder: Path,
    images: Sequence[Path],
    findings: Findings,
    *,
    several: str,
    lacking: Callable[[Path], str] | None = None,
) -> tuple[dict[Path, Path], list[Path]]:
    """The file in a folder that is named like each image, and the images without one; more than one is a problem.

    Args:
        dataset: the dataset of the images.
        folder: the folder of the files.
        images: the images.
        findings: gets the problems.
        several: what more than one of them is called, such as `references`.
        lacking: what is wrong with an image without one; None if nothing is.
    """
    found, missing = {}, []
    for image, candidates in named_alike(folder, images, dataset.folder_path, findings).items():
        if len(candidates) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in candidates)
            findings.problem(image, f"has several {several} in {folder}: {names}. Keep one")
        elif candidates:
            found[image] = candidates[0]
        else:
            missing.append(image)
            if lacking is not None:
                findings.problem(image, lacking(image))
    return found, missing


def named_alike(folder: Path, images: Sequence[Path], root: Path, findings: Findings) -> dict[Path, list[Path]]:
    """For each image the files in a folder that are named like it; empty if the folder cannot be used.

    Those are the files with the same path in the folder as the image has in the dataset `root`, with any extension; if
    there are none, those with the same name anywhere in the folder.
    """
    listing = list_images(folder)
    findings.problems += listing.problems
    if listing.problems:
        return {}
    by_path = _by_name((path.relative_to(folder).with_suffix("").as_posix(), path) for path in listing.images)
    by_stem = _by_name((path.stem, path) for path in listing.images)
    return {image: by_path.get(_relative_name(image, root)) or by_stem.get(image.stem, []) for image in images}


def looked_for(image: Path) -> str:
    """The file names that an image's counterpart may have."""
    return f"looked for {image.stem}.({'|'.join(sorted(extension[1:] for extension in EXTENSIONS))})"


def usable_references(
    dataset: DatasetConfig,
    matched: Mapping[Path, Sequence[Path]],
    inspected: Inspected,
    limits: ReferenceLimits,
    findings: Findings,
) -> dict[Path, tuple[tuple[Path, ImageInfo], ...]]:
    """The measured references of each image whose references can all be used; the rest is reported as problems.

    With `skip_unreadable`, images with an unreadable reference are left out with a notice instead.
    """

    def problem_of(info: ImageInfo) -> str | None:
        return reference_problem((info.width, info.height), limits)

    return usable_files(
        dataset, matched, inspected, findings, problem_of=problem_of, one="a reference", all_="references"
    )


def usable_files(
    dataset: DatasetConfig,
    matched: Mapping[Path, Sequence[Path]],
    inspected: Inspected,
    findings: Findings,
    *,
    problem_of: Callable[[ImageInfo], str | None],
    one: str,
    all_: str,
    is_reported: bool = True,
) -> dict[Path, tuple[tuple[Path, ImageInfo], ...]]:
    """The measured files of each image whose files can all be used; the rest is reported as problems.

    With `skip_unreadable`, images with an unreadable file are left out with a notice instead.

    Args:
        dataset: the dataset of the images.
        matched: the files of each image.
        inspected: what is known of each file.
        findings: gets problems and notices.
        problem_of: why a readable file cannot be used; None if it can.
        one, all_: what one file and all files of an image are called in messages.
        is_reported: whether unreadable files are reported here.
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
            if what := problem_of(info):
                findings.problem(path, what)
        elif is_reported and not dataset.skip_unreadable:
            findings.problem(path, f"cannot be read: {info}. Repair or remove it, or set `skip_unreadable: true`")
    if is_reported and dataset.skip_unreadable:
        findings.notice(dataset.folder_path, f"skipped because {one} cannot be read", skipped)
        if skipped and not usable:
            findings.problem(dataset.folder_path, f"contains no image whose {all_} can be read")
    return usable


def measure_references(
    paths: Sequence[Path], limits: ReferenceLimits
) -> tuple[list[tuple[Path, ImageInfo]], list[Problem]]:
    """The references of a sample with their sizes, and a problem for each one that cannot be used."""
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


def fit_reference(
    source: Size, *, limits: ReferenceLimits, divisor: int, num_references: int, target: Size | None = None
) -> Fit:
    """How a reference image is resized and cropped for the model.

    As in Black Forest Labs' reference code, images above the allowed area are scaled down (a single reference may be
    larger than one of several), none is scaled up, and the centre is cropped to whole cells.

    Args:
        source: (width, height) of the upright image, within `limits` (see `reference_problem`).
        limits: the model's limits on references.
        divisor: sides become multiples of this.
        num_references: number of references that the example has.
        target: if given, scale up or down to as many pixels as this (width, height), but not above the limits.
    """
    width, height = source
    most_px = limits.max_area_px if num_references == 1 else limits.max_area_each_px
    if target is not None:
        scale = math.sqrt(min(target[0] * target[1], most_px) / (width * height))
        bucket = (_nearest(width * scale, divisor), _nearest(height * scale, divisor))
        cover = max(bucket[0] / width, bucket[1] / height)
        resized = (max(bucket[0], round(width * cover)), max(bucket[1], round(height * cover)))
    else:
        scale = min(1.0, math.sqrt(most_px / (width * height)))
        resized = source if scale == 1 else (int(width * scale), int(height * scale))
        bucket = (resized[0] // divisor * divisor, resized[1] // divisor * divisor)
    corner = ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)
    return Fit(source=source, resized=resized, crop=corner, bucket=bucket)


def reference_problem(source: Size, limits: ReferenceLimits) -> str | None:
    """Why an image of this size cannot be a reference; None if it can."""
    width, height = source
    if min(source) < limits.min_side_px:
        return f"{width} x {height}: a reference image needs at least {limits.min_side_px} pixels on each side"
    if max(source) > limits.max_aspect * min(source):
        return f"{width} x {height}: a reference image may be at most {limits.max_aspect:g} times as long as it is wide"
    return None


def _by_name(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for name, path in named:
        paths.setdefault(name, []).append(path)
    return paths


def _relative_name(image: Path, root: Path) -> str:
    """Path of an image relative to its dataset's folder, or to the folder of its JSON file, without extension."""
    base = root if root.is_dir() else root.parent
    path = image.relative_to(base) if image.is_relative_to(base) else Path(image.name)
    return path.with_suffix("").as_posix()


def _what_is_missing(image: Path, folder: Path, what: str) -> str:
    return (
        f"has no {what} in {folder} ({looked_for(image)}). "
        "Add it, or set `allow_missing_control: true` to train the image without it"
    )


def _nearest(length: float, divisor: int) -> int:
    return max(divisor, round(length / divisor) * divisor)
