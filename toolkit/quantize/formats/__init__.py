"""How weights become few bits, and weights again: one format for each name in `QTYPES`."""

from __future__ import annotations

import torch

from toolkit.quantize.formats.format import Buffers, Format
from toolkit.quantize.formats.groups import INT4, NF4, UINT4, Grouped
from toolkit.quantize.formats.quanto import QuantoGroups, QuantoRows
from toolkit.quantize.formats.rows import RowScaled

FORMATS: dict[str, Format] = {
    "qfloat8": QuantoRows("qfloat8", RowScaled(torch.float8_e4m3fn)),
    "qint8": QuantoRows("qint8", RowScaled(torch.int8)),
    "qint4": QuantoGroups("qint4"),
    "qint2": QuantoGroups("qint2"),
    "float8": RowScaled(torch.float8_e4m3fn),
    "int8": RowScaled(torch.int8),
    "uint4": UINT4,
    "int4": INT4,
    "nf4": NF4,
}
VERSION = 1
"""Raise it when a format begins to round otherwise: part of the names of cache entries."""

__all__ = ["FORMATS", "VERSION", "Buffers", "Format", "Grouped", "RowScaled"]
