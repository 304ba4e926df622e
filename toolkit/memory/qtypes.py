"""The number formats that frozen weights can be held in: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Qtype:
    """A number format of frozen linear layers.

    Attributes:
        name: value of `model.qtype` and `model.qtype_te`.
        source: library that holds the weights.
        bits_per_weight: what one weight costs, its share of the scales included.
    """

    name: str
    source: str
    bits_per_weight: float


QTYPES = {
    qtype.name: qtype
    for qtype in (
        Qtype("qfloat8", "optimum-quanto", 8.0),
        Qtype("qint8", "optimum-quanto", 8.0),
        Qtype("qint4", "optimum-quanto", 4.25),
    )
}
