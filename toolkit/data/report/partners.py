"""Pictures that lack a file which a folder of references, masks or the like should have for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.data.beside.masks import sidecars
from toolkit.data.references import named_alike
from toolkit.data.report.doctor import Finding
from toolkit.data.scan_result import Findings


def missing_partners(dataset: DatasetConfig, images: Sequence[Path]) -> list[Finding]:
    """A finding for each image and each folder that has no file of its name."""
    found = []
    for kind, folder in _folders(dataset):
        partners = named_alike(folder, images, dataset.folder_path, Findings())
        found += [Finding(image, kind, f"none in {folder}") for image in images if not partners.get(image)]
    if dataset.has_sidecar_masks:
        beside = sidecars(dataset)
        found += [
            Finding(image, "mask missing", "none beside it") for image in images if image.with_suffix("") not in beside
        ]
    return found


def _folders(dataset: DatasetConfig) -> Iterator[tuple[str, Path]]:
    for folder in dataset.control_folders:
        yield "reference missing", folder
    if dataset.mask_path is not None and not dataset.has_sidecar_masks:
        yield "mask missing", dataset.mask_path
    if dataset.unconditional_path is not None:
        yield "counterpart missing", dataset.unconditional_path
