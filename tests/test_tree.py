"""What is tracked is the product alone: no links, nothing of the machine or the desk that it was made at."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folders of one machine. `/data`, `/path/to`, `/tmp` are what a documentation or a test may say of any.
MACHINE = re.compile(
    rb"(?<![\w.~*)}>/-])/(?:work|root|opt|mnt|srv|Users/\w+|home/\w+)/\w|\b[A-Za-z]:\\{1,2}Users\\", re.ASCII
)
# Places that readers of the repository cannot look up.
DESK = re.compile(rb"\b(?:issue|ticket|pull request|PR) ?#?\d+\b|\bworktree\b|\bTODO\(\w+\)", re.IGNORECASE)


@cache
def tracked() -> dict[str, str]:
    """Every file that git tracks, with its mode."""
    done = subprocess.run(["git", "ls-files", "--stage", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this folder is not a clone")
    entries = (entry.partition("\t") for entry in done.stdout.split("\0") if entry)
    return {name: about.split()[0] for about, _, name in entries}


def texts() -> dict[str, bytes]:
    """The tracked files that are text."""
    found = {name: (ROOT / name).read_bytes() for name in tracked() if (ROOT / name).is_file()}
    return {name: content for name, content in found.items() if b"\0" not in content[:8192]}


def _lines_with(pattern: re.Pattern[bytes]) -> list[str]:
    return [
        f"{name}:{number}: {line.decode(errors='replace').strip():.120}"
        for name, content in texts().items()
        for number, line in enumerate(content.splitlines(), 1)
        if pattern.search(line)
    ]


def test_files_are_files_and_neither_links_nor_other_repositories() -> None:
    wrong = {name: mode for name, mode in tracked().items() if mode not in ("100644", "100755")}
    assert not wrong


def test_no_file_names_a_folder_of_one_machine() -> None:
    assert not _lines_with(MACHINE)


def test_no_file_speaks_of_how_the_work_was_organised() -> None:
    assert not _lines_with(DESK)


def test_what_a_run_or_a_tool_leaves_behind_is_ignored() -> None:
    left = [
        ".venv",
        ".venv/bin/python",
        "output/a/state",
        ".mypy_cache/x",
        "extensions/mine/__init__.py",
        ".env",
        "a.pyc",
    ]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 128:
        pytest.skip("this folder is not a clone")
    assert done.stdout.split() == left


@pytest.mark.parametrize("folder", ["/root", "cd /work", "'/home/me", "in C:/Users".replace("/", "\\"), "(/opt"])
def test_a_folder_of_one_machine_would_be_found(folder: str) -> None:
    separator = "\\" if "\\" in folder else "/"
    assert MACHINE.search(f"{folder}{separator}cats".encode())
