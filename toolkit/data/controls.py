"""Finds the control pictures of images and samples, and fits them to the size of what they control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.config import AdapterConfig, DatasetConfig, SampleItem
from toolkit.data.buckets import Size, fit_to_size
from toolkit.data.examples import Example, Reference
from toolkit.data.image_files import IMAGES, ImageError, ImageInfo
from toolkit.data.references import match_folder
from toolkit.data.scan_result import Findings, Scan
from toolkit.data.view_images import MIN_SIDE_PX
from toolkit.errors import Problem

_OTHER_SHAPE = 0.02  # relative difference of aspect ratios that is reported
_OPAQUE = (
    "has no transparency, so nothing would be painted. Save it as PNG or WebP, transparent where the image is to be "
    "painted"
)


def with_controls(scan: Scan, datasets: Sequence[DatasetConfig], adapter: AdapterConfig | None) -> Scan:
    """The scan with the control pictures of every example, and with the problems found.

    Args:
        scan: the scanned datasets.
        datasets: the job's `datasets`.
        adapter: the adapter that reads control pictures; None changes nothing.
    """
    if adapter is None:
        return scan
    findings = Findings()
    found = [_of_dataset(index, dataset, adapter, scan, findings) for index, dataset in enumerate(datasets)]
    examples = tuple(_with(example, found[example.dataset_index], datasets) for example in scan.examples)
    return replace(
        scan,
        examples=examples,
        problems=(*scan.problems, *findings.problems),
        notices=(*scan.notices, *findings.notices),
    )


def control_pictures(example: Example, adapter: AdapterConfig | None) -> list[Reference]:
    """The pictures of an example whose latents an adapter reads."""
    pictures = [picture for picture in example.controls if picture is not None]
    if adapter is not None and adapter.invert_inpaint_mask_chance > 0 and example.controls[:1] != (None,):
        pictures += [replace(picture, is_inverted=True) for picture in pictures[:1]]
    return pictures


def sample_controls(
    item: SampleItem, adapter: AdapterConfig, *, divisor: int, background: tuple[int, int, int] = (0, 0, 0)
) -> tuple[list[Reference], list[Problem]]:
    """The control pictures of a sample, in order, and a problem for each one that cannot be used.

    Args:
        item: the sample.
        adapter: the adapter that reads them.
        divisor: sides of images are multiples of this.
        background: red, green, blue (0..255) shown behind transparent pixels.
    """
    size = (item.width // divisor * divisor, item.height // divisor * divisor)
    pictures, problems = [], []
    for position, path in enumerate(item.controls):
        try:
            info = IMAGES.inspect(path)
        except ImageError as error:
            problems.append(Problem(str(path), f"cannot be read: {error}"))
            continue
        if adapter.has_inpainting_input and position == 0 and not info.is_transparent:
            problems.append(Problem(str(path), _OPAQUE))
        if (what := _too_small(info)) is not None:
            problems.append(Problem(str(path), what))
        pictures.append(_fitted(path, info, size, background))
    return pictures, problems


_Found = Sequence[Mapping[Path, tuple[Path, ImageInfo]]]


def _of_dataset(index: int, dataset: DatasetConfig, adapter: AdapterConfig, scan: Scan, findings: Findings) -> _Found:
    """For each control, its file by image."""
    needed = adapter.num_control_folders
    for key in ("random_crop", "random_scale"):
        if getattr(dataset, key):
            what = "control pictures are encoded once, for the centre crop. Remove the key"
            findings.problem(f"datasets[{index}].{key}", what)
    if len(dataset.control_folders) < needed:
        what = (
            f"`{adapter.type}` reads {needed} folder{'s' if needed > 1 else ''} of control pictures, and there "
            f"{'is' if len(dataset.control_folders) == 1 else 'are'} {len(dataset.control_folders)}. Add them, with "
            "files named like the images, or change `adapter.num_control_images`"
        )
        findings.problem(f"datasets[{index}].control_path", what)
    if adapter.has_inpainting_input and dataset.inpaint_path is None:
        what = "missing. `has_inpainting_input` reads a picture with transparency for each image: give their folder"
        findings.problem(f"datasets[{index}].inpaint_path", what)
    images = list(dict.fromkeys(example.path for example in scan.examples if example.dataset_index == index))
    found = []
    if adapter.has_inpainting_input and dataset.inpaint_path is not None:
        masked = _inspected(match_folder(dataset, dataset.inpaint_path, images, findings, what="inpainting picture"))
        for path, info in masked.values():
            if isinstance(info, ImageInfo) and not info.is_transparent:
                findings.problem(path, _OPAQUE)
        found.append(masked)
    for folder in dataset.control_folders[:needed]:
        found.append(_inspected(match_folder(dataset, folder, images, findings, what="control picture")))
    return [_usable(column, dataset, scan, findings) for column in found]


def _too_small(info: ImageInfo) -> str | None:
    """Why a picture is too small to control anything; None if it is not."""
    if min(info.width, info.height) >= MIN_SIDE_PX:
        return None
    return f"has {info.width} x {info.height} pixels, too few to control anything. Use a picture as large as its image"


def _inspected(files: Mapping[Path, Path]) -> dict[Path, tuple[Path, ImageInfo | ImageError]]:
    found = IMAGES.inspect_all(files.values())
    return {image: (path, found[path]) for image, path in files.items()}


def _usable(
    column: Mapping[Path, tuple[Path, ImageInfo | ImageError]], dataset: DatasetConfig, scan: Scan, findings: Findings
) -> dict[Path, tuple[Path, ImageInfo]]:
    """The readable files; the others are problems. Files of another shape than their image are reported."""
    sources = {example.path: example.fit.source for example in scan.examples}
    usable, other_shape = {}, []
    for image, (path, info) in column.items():
        if isinstance(info, ImageError):
            findings.problem(path, f"cannot be read: {info}. Repair or replace it")
            continue
        if (what := _too_small(info)) is not None:
            findings.problem(path, what)
            continue
        usable[image] = (path, info)
        width, height = sources[image]
        if abs(info.width * height / (info.height * width) - 1) > _OTHER_SHAPE:
            other_shape.append(path)
    what = "with a control picture of another aspect ratio, cropped to its centre"
    findings.notice(dataset.folder_path, what, other_shape)
    return usable


def _with(example: Example, found: _Found, datasets: Sequence[DatasetConfig]) -> Example:
    background = datasets[example.dataset_index].control_transparent_color
    controls: list[Reference | None] = []
    for column in found:
        path, info = column.get(example.path, (None, None))
        if path is None or info is None:
            controls.append(None)
            continue
        picture = _fitted(path, info, example.bucket, background)
        controls.append(replace(picture, flip_x=example.flip_x, flip_y=example.flip_y))
    return replace(example, controls=tuple(controls))


def _fitted(path: Path, info: ImageInfo, size: Size, background: tuple[int, int, int]) -> Reference:
    return Reference(
        path=path,
        content_hash=info.content_hash,
        fit=fit_to_size((info.width, info.height), size),
        flip_x=False,
        flip_y=False,
        background=background,
    )
