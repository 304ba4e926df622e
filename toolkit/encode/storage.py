"""Where encoded things are kept, and how much of the memory they may take."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.config import DatasetConfig

LATENT_CACHE, TEXT_CACHE, OVERFLOW_CACHE = "_latent_cache", "_t_e_cache", "_overflow_cache"
# Encodings beyond this stay on disk: 1000 captions of a large model can take 16 GB.
MEMORY_LIMIT_BYTES = 2_000_000_000


def cache_folder(dataset: DatasetConfig, name: str, output_folder: Path) -> Path:
    """Beside the images, as in ai-toolkit; in the output folder where the images' folder cannot be written."""
    folder = dataset.folder_path if dataset.folder_path.is_dir() else dataset.folder_path.parent
    return folder / name if os.access(folder, os.W_OK) else output_folder / name
