"""Writes files that are generated from code, or only reports which of them are stale."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from toolkit.files import write_text


def write_or_check(
    repository: Path, texts: Mapping[Path, str], arguments: list[str] | None, *, script: str, description: str | None
) -> int:
    """Write the files that are stale, or with `--check` only report them.

    Args:
        repository: root folder of the repository.
        texts: expected content of each file, by its path in the repository.
        arguments: command-line arguments; None means those of this process.
        script: path of the script that writes the files, for messages.
        description: description of the script, for `--help`.

    Returns:
        The exit code: 1 if a check found a stale file.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in texts.items() if not _is_current(repository / path, text)}
    for path, text in stale.items():
        if check:
            print(f"{path} is stale: run python {script}")
        else:
            write_text(repository / path, text)
            print(f"wrote {path}")
    return 1 if check and stale else 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
