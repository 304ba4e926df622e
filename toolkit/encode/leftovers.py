"""Deletes what runs leave behind: partial files of killed runs, and what a finished run no longer needs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from toolkit.config import TrainingProcessConfig
from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, VIEW_CACHE, cache_folder
from toolkit.files import sweep_temporary
from toolkit.output.bundles import step_folders


def sweep_half_written(config: TrainingProcessConfig, output_folder: Path) -> None:
    """Delete partial files of killed runs, also in the caches."""
    folders = {output_folder, output_folder / "samples", output_folder / OVERFLOW_CACHE, *step_folders(output_folder)}
    caches = (LATENT_CACHE, TEXT_CACHE, VIEW_CACHE)
    folders |= {cache_folder(dataset, name, output_folder) for dataset in config.datasets for name in caches}
    for folder in sorted(folders):
        sweep_temporary(folder)


def remove_overflow(output_folder: Path) -> None:
    """Delete the encodings that did not fit into memory; no other run uses them."""
    folder = output_folder / OVERFLOW_CACHE
    for entry in folder.glob("*.safetensors"):
        entry.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):  # a rank on another machine may be faster
        if not any(folder.iterdir()):
            folder.rmdir()
