"""Finds the mask of each image, and reports masks that fit no image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from toolkit.config import DatasetConfig
from toolkit.data.beside.mask_loading import shows_nothing
from toolkit.data.examples import Example, MaskFile
from toolkit.data.image_files import IMAGES, ImageError, ImageInfo
from toolkit.data.references import looked_for, one_each
from toolkit.data.scan_result import NAMED_FILES, Findings, Scan
from toolkit.data.sources.find import list_images
from toolkit.data.sources.listing import Listing
from toolkit.errors import UserError

_OTHER_SHAPE = 0.02  # relative difference of aspect ratios; more is another picture, or another crop of it
_SIDECAR = re.compile(r"(?P<image>.+)([.]mask|-masklabel)", re.IGNORECASE)


def without_sidecars(dataset: DatasetConfig, listing: Listing, findings: Findings) -> None:
    """Take masks that lie beside their images, `x.mask.png` or `x-masklabel.png`, out of a listing of images.

    They stay, with a notice, if the dataset does not use them: `x.mask.png` may be an ordinary image.
    """
    names = {path.with_suffix("") for path in listing.images}
    masks = [path for path in listing.images if (own := image_of(path)) is not None and own in names]
    if masks and not dataset.has_sidecar_masks:
        what = "named like masks of other images, but trained as images; set `mask_path` to this folder to use them"
        findings.notice(dataset.folder_path, what, masks)
    elif masks:
        listing.images = [path for path in listing.images if path not in set(masks)]


def with_masks(scan: Scan, datasets: Sequence[DatasetConfig]) -> Scan:
    """The scan with the mask of every example, and with the problems found."""
    if not any(dataset.has_masks for dataset in datasets):
        return scan
    findings = Findings()
    found: list[dict[Path, MaskFile]] = []
    for index, dataset in enumerate(datasets):
        sources = {e.path: e.fit.source for e in scan.examples if e.dataset_index == index}
        masks = _matched(dataset, list(sources), findings)
        infos = IMAGES.inspect_all(masks.values())
        usable = {
            image: path for image, path in masks.items() if _is_usable(path, infos[path], sources[image], findings)
        }
        found.append({image: _mask_file(dataset, path, infos[path]) for image, path in usable.items()})
    _report_empty([mask for masks in found for mask in masks.values()], findings)
    if not findings.problems:
        _report_unused(datasets, found, findings)
    examples = tuple(_with(example, found[example.dataset_index]) for example in scan.examples)
    return replace(
        scan,
        examples=examples,
        problems=(*scan.problems, *findings.problems),
        notices=(*scan.notices, *findings.notices),
    )


def _matched(dataset: DatasetConfig, images: Sequence[Path], findings: Findings) -> dict[Path, Path]:
    """The file that holds the mask of each image; an image without one is a problem."""
    if dataset.alpha_mask:
        return _transparent(dataset, images, findings)
    if dataset.mask_path is None:
        return {}
    if not dataset.has_sidecar_masks:
        folder = dataset.mask_path

        def lacking(image: Path) -> str:
            return f"has no mask in {folder} ({looked_for(image)}). Add it: an all-white picture uses the whole image"

        return one_each(dataset, folder, images, findings, several="masks", lacking=lacking)[0]
    beside = sidecars(dataset)
    for image in images:
        if image.with_suffix("") not in beside:
            what = f"has no mask next to it ({image.stem}.mask.png or {image.stem}-masklabel.png). Add it"
            findings.problem(image, what)
    return {image: beside[image.with_suffix("")] for image in images if image.with_suffix("") in beside}


def sidecars(dataset: DatasetConfig) -> dict[Path, Path]:
    """The masks that lie beside their images, by the image without its extension."""
    listed = list_images(dataset.folder_path, recursive=dataset.recursive).images
    return {own: path for path in listed if (own := image_of(path)) is not None}


def _transparent(dataset: DatasetConfig, images: Sequence[Path], findings: Findings) -> dict[Path, Path]:
    infos = IMAGES.inspect_all(images)
    opaque = [path for path, info in infos.items() if isinstance(info, ImageInfo) and not info.is_transparent]
    if images and len(opaque) == len(images):
        what = (
            "no image has transparency, so `alpha_mask` would mask nothing. Save them as PNG or WebP, or remove the key"
        )
        findings.problem(dataset.folder_path, what)
    findings.notice(dataset.folder_path, "without transparency, trained as a whole", opaque)
    return {path: path for path in images if path not in set(opaque)}


def _is_usable(path: Path, info: ImageInfo | ImageError, source: tuple[int, int], findings: Findings) -> bool:
    if isinstance(info, ImageError):
        findings.problem(path, f"cannot be read: {info}. Repair or replace it")
        return False
    width, height = source
    if abs(info.width * height / (info.height * width) - 1) > _OTHER_SHAPE:
        what = (
            f"{info.width} x {info.height} has another aspect ratio than its image, {width} x {height}. Make the mask "
            "from the image as it is"
        )
        findings.problem(path, what)
        return False
    return True


def _mask_file(dataset: DatasetConfig, path: Path, info: ImageInfo | ImageError) -> MaskFile:
    assert isinstance(info, ImageInfo), "unreadable masks have been skipped"
    return MaskFile(
        path,
        info.content_hash,
        is_alpha=dataset.alpha_mask,
        is_inverted=dataset.invert_mask,
        floor=dataset.mask_min_value,
    )


def _report_empty(masks: Sequence[MaskFile], findings: Findings) -> None:
    unique = list(dict.fromkeys(masks))
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(_is_empty, unique))
    for mask, answer in zip(unique, answers, strict=True):
        if answer is True:
            kind = "opaque" if mask.is_alpha else "white"
            kind = f"not {kind}, which `invert_mask` asks for" if mask.is_inverted else kind
            findings.problem(mask.path, f"shows nothing: no pixel is {kind}. Paint it, or remove the image")
        elif isinstance(answer, UserError):
            findings.problem(mask.path, str(answer))


def _is_empty(mask: MaskFile) -> bool | UserError:
    try:
        return shows_nothing(mask)
    except UserError as error:
        return error


def _report_unused(
    datasets: Sequence[DatasetConfig], found: Sequence[Mapping[Path, MaskFile]], findings: Findings
) -> None:
    """Masks that belong to no image of any dataset that reads their folder."""
    used = {mask.path for masks in found for mask in masks.values()}
    for folder in dict.fromkeys(dataset.mask_path for dataset in datasets if dataset.mask_path is not None):
        readers = [dataset for dataset in datasets if dataset.mask_path == folder]
        beside = [dataset for dataset in readers if dataset.has_sidecar_masks]
        paths = list_images(folder, recursive=not beside or any(dataset.recursive for dataset in beside)).images
        if beside:
            paths = [path for path in paths if image_of(path) is not None]
        if unused := [path.name for path in paths if path not in used]:
            names = ", ".join(unused[:NAMED_FILES]) + (", ..." if len(unused) > NAMED_FILES else "")
            count = "1 mask belongs" if len(unused) == 1 else f"{len(unused)} masks belong"
            findings.problem(folder, f"{count} to no image: {names}. Rename or remove files that are not to be used")


def _with(example: Example, masks: Mapping[Path, MaskFile]) -> Example:
    return replace(example, mask_file=masks.get(example.path))


def image_of(path: Path) -> Path | None:
    """The image, without extension, whose mask a file is by its name; None if it is not a mask."""
    match = _SIDECAR.fullmatch(path.stem)
    return None if match is None else path.with_name(match["image"])
