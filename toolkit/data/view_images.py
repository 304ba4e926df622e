"""Finds the images that adapters see through a vision encoder, beside the training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.data.examples import ViewImage
from toolkit.data.image_files import ImageError, ImageInfo
from toolkit.data.references import looked_for, one_each, usable_files
from toolkit.data.scan_result import Findings

MIN_SIDE_PX = 8  # of less an encoder sees one colour
Views = Mapping[Path, tuple[Path, ImageInfo]]


def separate_folders(dataset: DatasetConfig) -> tuple[Path, ...]:
    """Folders whose images belong to those of the dataset, and are not trained on themselves."""
    folder = dataset.clip_image_path
    own = () if folder is None or dataset.sees_itself else (folder,)
    masked = () if dataset.inpaint_path is None else (dataset.inpaint_path,)
    masks = () if dataset.mask_path is None else (dataset.mask_path,)
    pairs = () if dataset.unconditional_path is None else (dataset.unconditional_path,)
    return (*dataset.control_folders, *masked, *own, *masks, *pairs)


def match_views(dataset: DatasetConfig, images: Sequence[Path], findings: Findings) -> dict[Path, Path]:
    """The file that adapters see for each image: one of the same name in `clip_image_path`, or the image itself.

    Files are matched like references. Missing and ambiguous ones are problems. Empty if the dataset names no folder.
    """
    if dataset.sees_itself:
        return {image: image for image in images}
    folder = dataset.clip_image_path
    if folder is None:
        return {}

    def lacking(image: Path) -> str:
        return f"has no image for the adapter in {folder} ({looked_for(image)}). Add it"

    return one_each(dataset, folder, images, findings, several="images for the adapter", lacking=lacking)[0]


def usable_views(
    dataset: DatasetConfig,
    matched: Mapping[Path, Path],
    inspected: Mapping[Path, ImageInfo | ImageError],
    findings: Findings,
) -> Views:
    """The measured images of those that can be used; the rest is reported as problems.

    With `skip_unreadable`, images whose counterpart is unreadable are left out with a notice instead.
    """
    usable = usable_files(
        dataset,
        {image: (path,) for image, path in matched.items()},
        inspected,
        findings,
        problem_of=view_problem,
        one="the image for the adapter",
        all_="image for the adapter",
        is_reported=not dataset.sees_itself,  # the image itself is reported as such
    )
    return {image: files[0] for image, files in usable.items()}


def view_problem(info: ImageInfo) -> str | None:
    """Why an image is of no use to a vision encoder; None if it can be used."""
    if min(info.width, info.height) >= MIN_SIDE_PX:
        return None
    return (
        f"has {info.width} x {info.height} pixels, too few for a vision encoder to see anything. Use an image of at "
        f"least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels"
    )


def view_of(
    file: tuple[Path, ImageInfo] | None, background: tuple[int, int, int], *, flip_x: bool = False, flip_y: bool = False
) -> ViewImage | None:
    """A measured file as an image that adapters see."""
    if file is None:
        return None
    path, info = file
    return ViewImage(path, info.content_hash, flip_x, flip_y, background)
