"""Reads the headers of safetensors files without any tensor library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolkit.errors import UserError

_MOST_BYTES = 100_000_000  # the format's own limit


def read_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in some safetensors files, by name.

    Raises:
        UserError: a file cannot be read, is not a safetensors file, or is shorter than its header says.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        shapes |= _read(path)[0]
    return shapes


def read_metadata(path: Path) -> dict[str, str]:
    """The free-form metadata of a safetensors file. Raises like `read_shapes`."""
    return _read(path)[1]


def must_match(told: Mapping[str, str], expected: Mapping[str, str], *, source: str) -> None:
    """Raise UserError if a file says something else of itself than a job expects; it may say nothing.

    Args:
        told: the file's metadata.
        expected: what it must say, if it says anything of it.
        source: the file, for messages.
    """
    for key, value in expected.items():
        if told.get(key, value) != value:
            raise UserError(
                f"{source}: was trained with {key.replace('_', ' ')} {told[key]}, and this job has {value}. "
                "Change the job, or choose another file."
            )


def _read(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _MOST_BYTES)))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
        is_whole = path.stat().st_size == 8 + length + end
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        raise UserError(f"{path}: is not a safetensors file, or is damaged. Download it again.") from error
    if not is_whole:
        raise UserError(f"{path}: the file is incomplete. Download it again.")
    return shapes, metadata
