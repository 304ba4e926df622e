"""The version of this trainer, read from pyproject.toml and written into everything the trainer saves."""

from __future__ import annotations

import tomllib
from pathlib import Path


def read_version(pyproject: Path) -> str:
    """The version in a pyproject.toml; "unknown" if it cannot be read, as the trainer also runs without the file."""
    try:
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError):
        return "unknown"


VERSION = read_version(Path(__file__).resolve().parents[1] / "pyproject.toml")
