"""A small instance for the contract tests; this model is already small enough."""

from pathlib import Path
from typing import Any


def make_tiny(arch: str, folder: Path) -> dict[str, Any]:
    """The `model` section of a job, without `arch`. If it needs files, write them to `folder`."""
    return {"name_or_path": "example/random-weights"}
