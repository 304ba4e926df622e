"""What runs leave behind in folders: half-written files of killed ones, and what a finished one needs no more."""

from __future__ import annotations

from pathlib import Path

from toolkit.config import TrainingProcessConfig
from toolkit.encode.storage import LATENT_CACHE, OVERFLOW_CACHE, TEXT_CACHE, cache_folder
from toolkit.files import sweep_temporary
from toolkit.output.bundles import step_folders


def sweep_half_written(config: TrainingProcessConfig, output_folder: Path) -> None:
    """Delete what killed runs left half-written, in the caches too."""
    folders = {output_folder, output_folder / "samples", output_folder / OVERFLOW_CACHE, *step_folders(output_folder)}
    caches = (LATENT_CACHE, TEXT_CACHE)
    folders |= {cache_folder(dataset, name, output_folder) for dataset in config.datasets for name in caches}
    for folder in sorted(folders):
        sweep_temporary(folder)


def remove_overflow(output_folder: Path) -> None:
    """Delete the encodings that did not fit into memory; they serve no other run."""
    folder = output_folder / OVERFLOW_CACHE
    for entry in folder.glob("*.safetensors"):
        entry.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
