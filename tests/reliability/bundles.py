"""What the trainer makes of the bundles in a folder."""

from __future__ import annotations

from pathlib import Path

from toolkit.output.bundles import find_bundles


def valid_steps(output: Path) -> list[int]:
    """The steps of the valid bundles, oldest first."""
    return [bundle.step for bundle in find_bundles(output)[0]]


def passed_over(output: Path) -> list[str]:
    """A line for each bundle that is not valid: its folder and the reason."""
    return [f"{broken.folder}: {broken}" for broken in find_bundles(output)[1]]
