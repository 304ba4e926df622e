"""The table of what the suite has done: printed after every run, kept in RESULTS.md after the long form."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from toolkit.files import write_text
from toolkit.version import VERSION

RESULTS = Path(__file__).parent / "RESULTS.md"
_TITLE = "# What the long form found\n\nWritten by `make torture`; each section by the last run of its test.\n"


class Results:
    """Figures by section, in the order in which they came."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, str]] = {}

    def add(self, section: str, **figures: object) -> None:
        """Add figures to a section; `_` in their names becomes a space."""
        rows = self.sections.setdefault(section, {})
        rows |= {name.replace("_", " "): str(value) for name, value in figures.items()}

    def text(self) -> str:
        """One Markdown table per section."""
        return "\n".join(_section(title, rows) for title, rows in self.sections.items())

    def write(self, path: Path) -> None:
        """Put the sections into the file; those of tests that have not run stay as they were."""
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = {part.partition("\n")[0]: part for part in re.split(r"^## ", before, flags=re.MULTILINE)[1:]}
        new = {
            title: _section(title, rows, machine=machine()).removeprefix("## ") for title, rows in self.sections.items()
        }
        parts = {**kept, **new}
        write_text(path, "\n".join([_TITLE, *(f"## {parts[title].rstrip()}\n" for title in sorted(parts))]))


def machine() -> str:
    """Where the figures come from."""
    cores = len(os.sched_getaffinity(0))
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, trainer {VERSION}"
    return f"{platform.system()} {platform.machine()}, {cores} cores, CPU only; {versions}"


def _section(title: str, rows: dict[str, str], *, machine: str = "") -> str:
    lines = [f"## {title}", ""]
    lines += [machine, ""] if machine else []
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    return "\n".join(lines)
