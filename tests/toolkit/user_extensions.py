"""Extensions that a test writes as a user would."""

from __future__ import annotations

from pathlib import Path

from toolkit.extension import Root


def add_package(root: Root, name: str, text: str) -> Path:
    """Write a package of one file into a folder for user extensions; the folder of the package."""
    folder = root.folder / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(text, encoding="utf-8")
    return folder
