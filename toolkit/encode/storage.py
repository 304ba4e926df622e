"""Where encoded captions and images are kept, and how much memory they may take."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.config import DatasetConfig

LATENT_CACHE, TEXT_CACHE, VIEW_CACHE = "_latent_cache", "_t_e_cache", "_clip_vision_cache"
OVERFLOW_CACHE = "_overflow_cache"
# Encodings beyond this stay on disk: 1000 captions of a large model can take 16 GB.
MEMORY_LIMIT_BYTES = 2_000_000_000
# Pictures that are decoded before the encoder is done with the last, and encodings that are written after it is.
MOST_AHEAD = 4


def cache_folder(dataset: DatasetConfig, name: str, output_folder: Path) -> Path:
    """A dataset's cache folder: next to its images, as in ai-toolkit, or in the output folder if that is read-only."""
    folder = dataset.folder_path if dataset.folder_path.is_dir() else dataset.folder_path.parent
    return folder / name if os.access(folder, os.W_OK) else output_folder / name
