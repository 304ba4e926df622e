"""How weights are quantized and dequantized: one format for each name in `QTYPES`."""

from __future__ import annotations

from toolkit.quantize.formats.format import Buffers, Format
from toolkit.quantize.formats.groups import Grouped
from toolkit.quantize.formats.rows import RowScaled
from toolkit.quantize.qtypes import QTYPES

FORMATS: dict[str, Format] = {name: row.load() for name, row in QTYPES.items()}
VERSION = 1
"""Part of the names of cache entries; raise it when a format changes how it rounds."""

__all__ = ["FORMATS", "VERSION", "Buffers", "Format", "Grouped", "RowScaled"]
