"""Checks that the output folder can be written to and that its drive has room for the checkpoints."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from toolkit.errors import UserError
from toolkit.units import as_size

# For models that do not list their layers: a LoRA of rank 16 on all layers of klein 4B has 0.6 % as many weights as the
# model; on larger models it has fewer.
_LORA_SHARE_PER_RANK = 0.0065 / 16
_SMALLEST_MODEL = 10_000_000


def most_trained(num_parameters: int, lora_rank: int | None) -> int:
    """Upper bound for the number of weights that a run trains.

    Args:
        num_parameters: weights of the model; 0 if unknown.
        lora_rank: rank of the LoRA; None for a full fine-tune.
    """
    size = max(num_parameters, _SMALLEST_MODEL)
    return size if lora_rank is None else round(size * _LORA_SHARE_PER_RANK * lora_rank)


def needed_bytes(*, save_bytes: float, state_bytes: float, num_kept: int, num_saves: int, num_states: int = 0) -> int:
    """Upper estimate of the bytes that a run's checkpoints take.

    Args:
        save_bytes: bytes of a checkpoint that are kept as long as its weights for use, these among them.
        state_bytes: bytes of its state: raw weights, optimizer state and average.
        num_kept: number of checkpoints that retention keeps; 0 keeps all.
        num_saves: number of checkpoints that the run writes.
        num_states: number of kept checkpoints that keep their state; 0: all of them.
    """
    # One more than is kept: a new one is complete before an old one is deleted. Another one for the final file.
    kept = min(num_saves, num_kept + 1 if num_kept else num_saves) + 1
    states = min(kept, num_states + 1) if num_states else kept
    return round(save_bytes * kept + state_bytes * states)


def free_bytes(path: Path) -> int:
    """Free bytes on the drive of `path`, which need not exist yet."""
    return shutil.disk_usage(_nearest_existing(path)).free


def drive_of(path: Path) -> int:
    """The device number of the file system of `path`, which need not exist yet."""
    return _nearest_existing(path).stat().st_dev


def check_output_folder(folder: Path, *, needed: int) -> None:
    """Raises UserError if `folder` cannot be written or its drive has less than `needed` bytes free."""
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise UserError(f"training_folder: {existing} is a file, so {folder} cannot be created. Choose another one.")
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
    real = Path(os.path.realpath(path))  # Path.resolve raises on circular links
    return next(candidate for candidate in (path, *real.parents) if candidate.exists())
