"""Where quantized weights are cached for later starts, and whether there is room; does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.output.disk import free_bytes

ELSEWHERE = "Set model.quantize_cache to another folder, or turn the cache off with --no-cache."
_SPARE_BYTES = 1 << 30  # to leave free on the drive


def trainer_cache() -> Path:
    """The folder for everything that later starts of any job can reuse."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "flux2-trainer"


def cache_folder(setting: bool | Path) -> Path | None:
    """The cache folder for a value of `model.quantize_cache`; None if nothing is cached."""
    if setting is False:
        return None
    return setting if isinstance(setting, Path) else trainer_cache() / "quantized"


def compiled_folder(setting: bool | Path) -> Path | None:
    """The folder for compiled code, beside the quantized weights; None if nothing is cached."""
    if setting is False:
        return None
    return (setting if isinstance(setting, Path) else trainer_cache()) / "compiled"


def lack_of_room(folder: Path, size: int) -> str | None:
    """Why `size` bytes do not fit on the drive of `folder`, and what to do; None if they fit."""
    free = free_bytes(folder)
    if free >= size + _SPARE_BYTES:
        return None
    return f"they take {size / 1e9:.2f} GB, and the drive of {folder} has {free / 1e9:.2f} GB free. {ELSEWHERE}"


def find_similar(folder: Path, *, qtype: str, label: str) -> Path | None:
    """A cache entry with this format and label, whatever its weights; None if there is none."""
    return next(folder.glob(f"{label}-{qtype}-*.safetensors"), None)
