"""Where samples are in an output folder, and what their names say."""

from __future__ import annotations

import os
import re
from pathlib import Path

SAMPLES = "samples"
_NAME = re.compile(r"(?P<ms>\d{1,15})__(?P<step>\d{1,12})_(?P<index>\d{1,6})\.(jpg|jpeg|png|webp)")


def sample_name(*, time_ms: int, step: int, index: int, extension: str) -> str:
    """The name of a sample.

    Args:
        time_ms: when it was drawn, in milliseconds since 1970.
        step: number of completed steps.
        index: of its prompt.
        extension: `jpg`, `png` or `webp`.
    """
    return f"{time_ms}__{step:09d}_{index}.{extension}"


def sample_names(folder: Path) -> dict[tuple[int, int], str]:
    """The names of the samples in a folder, by step and prompt; of two at one place the newest."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - 10,000 of them
    except OSError:
        return {}
    return {(int(match["step"]), int(match["index"])): match[0] for match in map(_NAME.fullmatch, names) if match}


def spread(steps: list[int], count: int) -> list[int]:
    """At most `count` of the steps (at least 2), evenly spaced, including the first and the last."""
    if len(steps) <= count:
        return steps
    return [steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count)]
