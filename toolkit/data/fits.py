"""Fits the images of a dataset to their buckets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from toolkit.config.dataset import DatasetConfig
from toolkit.data.buckets import Fit, fit_to_bucket, fit_to_size, fit_to_square
from toolkit.data.image_files import ImageInfo
from toolkit.data.scan_result import Findings

LARGE_CROP = 0.25  # share of an image that may be cropped away before it is reported


def fit_images(
    dataset: DatasetConfig, infos: Mapping[Path, ImageInfo], resolution: int, divisor_px: int, findings: Findings
) -> dict[Path, Fit]:
    """How each image of a dataset is fitted to its bucket at a resolution; what may surprise is reported."""
    fits = {path: _fit(dataset, info, resolution, divisor_px) for path, info in infos.items()}
    enlarged = [path for path, fit in fits.items() if fit.is_enlarged]
    what = f"smaller than {divisor_px} pixels on a side, scaled up" if dataset.scale <= 1 else "scaled up by `scale`"
    findings.notice(dataset.folder_path, what, enlarged)
    same = [path for path, fit in fits.items() if dataset.random_scale and fit.enlarged_by(1) == fit]
    what = f"no larger than at resolution {resolution}, so that `random_scale` changes nothing"
    findings.notice(dataset.folder_path, what, same)
    cropped = [
        f"{path.name} ({1 - fit.kept_share:.0%})" for path, fit in fits.items() if fit.kept_share < 1 - LARGE_CROP
    ]
    findings.notice(dataset.folder_path, f"losing a large part to the crop at resolution {resolution}", cropped)
    return fits


def report_small_images(
    dataset: DatasetConfig, infos: Mapping[Path, ImageInfo], divisor_px: int, findings: Findings
) -> None:
    """Report images below a resolution: they are never enlarged, so several resolutions may repeat the same image."""
    resolutions = sorted(dict.fromkeys(size for size in dataset.resolution if size >= divisor_px))
    if not resolutions:
        return
    smallest, largest = resolutions[0], resolutions[-1]
    small = [path for path, info in infos.items() if info.width * info.height < smallest**2]
    findings.notice(
        dataset.folder_path, f"smaller than {smallest} x {smallest} pixels, trained at the original size", small
    )
    if len(resolutions) == 1:
        return
    repeated = [
        path
        for path, info in infos.items()
        if len({_fit(dataset, info, size, divisor_px) for size in resolutions}) < len(resolutions)
    ]
    what = f"too small for {largest} x {largest} pixels, repeated at the same size for several resolutions"
    findings.notice(dataset.folder_path, what, repeated)


def _fit(dataset: DatasetConfig, info: ImageInfo, resolution: int, divisor_px: int) -> Fit:
    size = (max(1, round(info.width * dataset.scale)), max(1, round(info.height * dataset.scale)))
    fit = (fit_to_square if dataset.square_crop else fit_to_bucket)(*size, resolution=resolution, divisor=divisor_px)
    return fit if dataset.scale == 1 else fit_to_size((info.width, info.height), fit.bucket)
