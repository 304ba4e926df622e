"""Finds images that are the same, or nearly: resized, recompressed or slightly cropped copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

from toolkit.data.report.looks import Look

MOST_BITS = 8  # of 64 that differ between copies
MOST_COLOR = 10.0  # mean difference of 8 x 8 thumbnails, of 255


def exact_groups(hashes: Mapping[Path, str]) -> list[tuple[Path, ...]]:
    """Images with equal files, in groups of two or more."""
    groups: dict[str, list[Path]] = {}
    for path, content in hashes.items():
        groups.setdefault(content, []).append(path)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near_groups(hashes: Mapping[Path, str], looks: Mapping[Path, Look]) -> list[tuple[Path, ...]]:
    """Images that look alike and whose files differ, in groups; of equal files, one counts.

    Args:
        hashes: image -> hash of its file.
        looks: what they look like; those without a look are in no group.
    """
    paths = list({content: path for path, content in reversed(list(hashes.items()))}.values())[::-1]
    seen = [path for path in paths if path in looks]
    return _grouped(seen, [looks[path] for path in seen])


def _grouped(paths: Sequence[Path], looks: Sequence[Look]) -> list[tuple[Path, ...]]:
    """Each image that is in no group yet, with all later ones that look like it."""
    if not paths:
        return []
    bits = numpy.array([look.bits for look in looks], dtype=numpy.uint64)
    colors = numpy.array([look.colors for look in looks], dtype=numpy.float32)
    is_free = numpy.ones(len(paths), dtype=bool)
    groups = []
    for index, path in enumerate(paths):
        if not is_free[index]:
            continue
        later = index + 1 + numpy.flatnonzero(numpy.bitwise_count(bits[index + 1 :] ^ bits[index]) <= MOST_BITS)
        later = later[is_free[later]]
        alike = later[numpy.abs(colors[later] - colors[index]).mean(axis=1) <= MOST_COLOR]
        if len(alike):
            is_free[alike] = False
            groups.append((path, *(paths[number] for number in alike)))
    return groups
