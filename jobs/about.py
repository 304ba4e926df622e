"""What the trainer says about itself: its models, its versions, and extensions that are broken."""

from __future__ import annotations

import importlib.metadata
import platform

from toolkit.cards import find_cards, read_cards
from toolkit.config.reading.installed import read_processes
from toolkit.version import VERSION


def broken_extensions() -> list[str]:
    """For each extension that cannot be used, the reason."""
    return sorted(map(str, {*read_processes().broken, *read_cards().broken}))


def model_table() -> str:
    """The models that a job may name, as a table."""
    rows = [("arch", "model", "name_or_path", "licence")]
    rows += [
        (card.arch, card.label, card.source, f"{card.license}{' (gated)' if card.is_gated else ''}")
        for card in sorted(find_cards().values(), key=lambda card: card.arch)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def versions_text() -> str:
    """The versions of the trainer and of the libraries that decide what it does."""
    libraries = ("torch", "diffusers", "transformers", "peft")
    versions = ", ".join(f"{library} {importlib.metadata.version(library)}" for library in libraries)
    return f"{VERSION} (python {platform.python_version()}, {versions})"
