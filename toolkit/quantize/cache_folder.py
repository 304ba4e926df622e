"""Where quantized weights are kept for later starts, and whether there is room; loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

from toolkit.output.disk import free_bytes

ELSEWHERE = "Name another folder in model.quantize_cache, or turn it off with --no-cache."
_SPARE_BYTES = 1 << 30  # left free on the drive


def trainer_cache() -> Path:
    """The folder for everything that later starts of any job may use."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "flux2-trainer"


def cache_folder(setting: bool | Path) -> Path | None:
    """The folder that `model.quantize_cache` means; None keeps nothing."""
    if setting is False:
        return None
    return setting if isinstance(setting, Path) else trainer_cache() / "quantized"


def lack_of_room(folder: Path, size: int) -> str | None:
    """Why the drive of `folder` cannot take `size` bytes, and what to do; None if it can."""
    free = free_bytes(folder)
    if free >= size + _SPARE_BYTES:
        return None
    return f"they take {size / 1e9:.2f} GB, and the drive of {folder} has {free / 1e9:.2f} GB free. {ELSEWHERE}"


def find_similar(folder: Path, *, qtype: str, label: str) -> Path | None:
    """An entry of this kind that is kept already, of whatever weights; None if there is none."""
    return next(folder.glob(f"{label}-{qtype}-*.safetensors"), None)
