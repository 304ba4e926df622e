"""Estimates how many bytes the encoded captions of a run take and where they are kept, before encoding anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from toolkit.encode.storage import MEMORY_LIMIT_BYTES
from toolkit.units import as_size

# Packing leaves about 10.7 of the 16 bits of a bf16 number: sign and exponent are coded (measured on normal numbers).
_PACKED_SHARE = 0.67


def describe_captions(captions: Mapping[str, Path | None], shape: tuple[int, int], *, overflow: Path) -> str:
    """A line about the captions for the printed plan.

    Args:
        captions: distinct text -> cache folder that keeps its embeddings; None for memory.
        shape: shape (L, D) of one encoded prompt; zeros if unknown.
        overflow: folder for embeddings that do not fit into memory.
    """
    locations: list[str] = []
    on_disk = [folder for folder in captions.values() if folder is not None]
    in_memory = len(captions) - len(on_disk)
    if on_disk:
        folders = ", ".join(str(folder) for folder in dict.fromkeys(on_disk))
        locations.append(f"{as_size(bytes_on_disk(len(on_disk), shape))} in {folders}")
    if in_memory:
        locations.append(f"{as_size(min(bytes_in_memory(in_memory, shape), MEMORY_LIMIT_BYTES))} in memory")
    if overflow_bytes(captions, shape):
        locations.append(f"{as_size(overflow_bytes(captions, shape))} in {overflow} until the run is done")
    return f"{len(captions)} distinct captions, each encoded once: up to {', '.join(locations)}"


def overflow_bytes(captions: Mapping[str, Path | None], shape: tuple[int, int]) -> int:
    """Upper estimate of the disk space for captions that should be kept in memory but do not fit there."""
    in_memory = sum(folder is None for folder in captions.values())
    return round(max(bytes_in_memory(in_memory, shape) - MEMORY_LIMIT_BYTES, 0) * _PACKED_SHARE)


def bytes_in_memory(count: int, shape: tuple[int, int]) -> int:
    """Upper estimate of the memory for bf16 embeddings; they take less if padding is dropped."""
    return count * shape[0] * shape[1] * 2


def bytes_on_disk(count: int, shape: tuple[int, int]) -> int:
    """Upper estimate of the disk space for packed bf16 embeddings."""
    return round(bytes_in_memory(count, shape) * _PACKED_SHARE)
