"""The version of this trainer, which pyproject.toml has: it is written into what the trainer saves."""

from __future__ import annotations

import tomllib
from pathlib import Path


def read_version(pyproject: Path) -> str:
    """The version in a pyproject.toml; "unknown" where there is no such file, as the trainer runs without it, too."""
    try:
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError):
        return "unknown"


VERSION = read_version(Path(__file__).resolve().parents[1] / "pyproject.toml")
