"""Whether the output folder can be written, and whether what will be written fits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from toolkit.dtypes import DTYPES
from toolkit.errors import UserError
from toolkit.units import as_size

# Of a model that does not list its layers: a LoRA of rank 16 on all of klein 4B's has 0.6 % of the model's weights, of
# larger ones less.
_LORA_SHARE_PER_RANK = 0.0065 / 16
_SMALLEST_MODEL = 10_000_000


def most_trained(num_parameters: int, lora_rank: int | None) -> int:
    """The most weights that a run can train, of a model of so many (0: unknown); `lora_rank` is None where all are."""
    size = max(num_parameters, _SMALLEST_MODEL)
    return size if lora_rank is None else round(size * _LORA_SHARE_PER_RANK * lora_rank)


def needed_bytes(
    *, num_trained: int, dtype: str, num_kept: int, num_saves: int, bytes_per_state: float, num_states: int = 0
) -> int:
    """Upper estimate of what a run's checkpoints take.

    Args:
        num_trained: weights that are trained.
        dtype: of the saved weights.
        num_kept: checkpoints that retention keeps; 0 keeps all.
        num_saves: checkpoints that the run writes.
        bytes_per_state: what a bundle holds for each trained weight: raw weight, optimizer state and average.
        num_states: of the kept checkpoints, those that keep their state; 0: all.
    """
    # One more than is kept: the new one is whole before an old one goes. One more again for the final file.
    kept = min(num_saves, num_kept + 1 if num_kept else num_saves) + 1
    states = min(kept, num_states + 1) if num_states else kept
    return round(num_trained * (DTYPES[dtype].num_bytes * kept + bytes_per_state * states))


def free_bytes(path: Path) -> int:
    """Bytes that are free on the drive of `path`, which need not exist yet."""
    return shutil.disk_usage(_nearest_existing(path)).free


def drive_of(path: Path) -> int:
    """The number of the file system that `path`, which need not exist yet, is on."""
    return _nearest_existing(path).stat().st_dev


def check_output_folder(folder: Path, *, needed: int) -> None:
    """Raises UserError if `folder` cannot be written or its drive has less than `needed` bytes free."""
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise UserError(f"training_folder: {existing} is a file, so {folder} cannot be a folder. Choose another one.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"training_folder: {existing} cannot be written by this user. Choose another one.")
    free = free_bytes(existing)
    if free < needed:
        raise UserError(
            f"training_folder: {folder} needs up to {as_size(needed)} for checkpoints, but its drive has "
            f"{as_size(free)} free. Free some, choose another training_folder, or lower "
            "save.max_states_to_keep or save.max_step_saves_to_keep."
        )


def _nearest_existing(path: Path) -> Path:
    real = Path(os.path.realpath(path))  # Path.resolve raises where links go round in a circle
    return next(place for place in (path, *real.parents) if place.exists())
