"""The software environment of a run: versions of this program and of the libraries that affect its numbers."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from toolkit.version import VERSION

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "optimum-quanto", "safetensors")
_ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def versions() -> dict[str, str]:
    """Versions by name: the trainer, Python, and those of `LIBRARIES` that are installed."""
    found = {"trainer": VERSION, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def git_commit() -> str | None:
    """The git commit of this program, followed by `+` if files have changed since; None without git."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
