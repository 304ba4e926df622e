"""A small instance for the contract tests; this model is small enough as it is."""

from pathlib import Path
from typing import Any


def make_tiny(arch: str, folder: Path) -> dict[str, Any]:
    """The `model` section of a job, without `arch`. Files that it names would be written to `folder`."""
    return {"name_or_path": "example/random-weights"}
