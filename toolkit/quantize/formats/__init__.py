"""How weights become few bits, and weights again: one format for each name in `QTYPES`."""

from __future__ import annotations

from toolkit.quantize.formats.format import Buffers, Format
from toolkit.quantize.formats.groups import Grouped
from toolkit.quantize.formats.rows import RowScaled
from toolkit.quantize.qtypes import QTYPES

FORMATS: dict[str, Format] = {name: row.load() for name, row in QTYPES.items()}
VERSION = 1
"""Raise it when a format begins to round otherwise: part of the names of cache entries."""

__all__ = ["FORMATS", "VERSION", "Buffers", "Format", "Grouped", "RowScaled"]
