"""Finds the counterpart of each image, for sliders that are trained on pairs, and fits it to the size of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from toolkit.config import DatasetConfig
from toolkit.data.buckets import fit_to_size
from toolkit.data.examples import Example, Reference
from toolkit.data.image_files import IMAGES, ImageError, ImageInfo
from toolkit.data.references import looked_for, one_each
from toolkit.data.scan_result import Findings, Scan

_OTHER_SHAPE = 0.02  # relative difference of aspect ratios that is no pair any more


def with_counterparts(scan: Scan, datasets: Sequence[DatasetConfig]) -> Scan:
    """The scan with the counterpart of every example, and with the problems found."""
    if all(dataset.unconditional_path is None for dataset in datasets):
        return scan
    findings = Findings()
    found = [_of_dataset(index, dataset, scan, findings) for index, dataset in enumerate(datasets)]
    return replace(
        scan,
        examples=tuple(_with(example, found[example.dataset_index], datasets) for example in scan.examples),
        problems=(*scan.problems, *findings.problems),
    )


def _of_dataset(
    index: int, dataset: DatasetConfig, scan: Scan, findings: Findings
) -> dict[Path, tuple[Path, ImageInfo]]:
    folder = dataset.unconditional_path
    if folder is None:
        return {}
    if dataset.random_crop:
        what = "a pair is encoded once, for the centre crop. Remove the key"
        findings.problem(f"datasets[{index}].random_crop", what)
    sources = {example.path: example.fit.source for example in scan.examples if example.dataset_index == index}

    def lacking(image: Path) -> str:
        return f"has no counterpart in {folder} ({looked_for(image)}). Add it"

    paths = one_each(dataset, folder, list(sources), findings, several="counterparts", lacking=lacking)[0]
    infos, usable = IMAGES.inspect_all(paths.values()), {}
    for image, path in paths.items():
        info, (width, height) = infos[path], sources[image]
        if isinstance(info, ImageError):
            findings.problem(path, f"cannot be read: {info}. Repair or replace it")
        elif abs(info.width * height / (info.height * width) - 1) > _OTHER_SHAPE:
            size = f"{info.width} x {info.height}"
            what = f"{size} has another aspect ratio than its image, {width} x {height}. Crop one of them"
            findings.problem(path, what)
        else:
            usable[image] = (path, info)
    return usable


def _with(example: Example, found: Mapping[Path, tuple[Path, ImageInfo]], datasets: Sequence[DatasetConfig]) -> Example:
    path, info = found.get(example.path, (None, None))
    if path is None or info is None:
        return example
    counterpart = Reference(
        path=path,
        content_hash=info.content_hash,
        fit=fit_to_size((info.width, info.height), example.bucket),
        flip_x=example.flip_x,
        flip_y=example.flip_y,
        background=datasets[example.dataset_index].background_color,
    )
    return replace(example, counterpart=counterpart)
