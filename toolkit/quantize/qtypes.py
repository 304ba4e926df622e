"""The number formats that frozen weights can be held in: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

QUANTO, OURS = "optimum-quanto", "this trainer"


@dataclass(frozen=True)
class Qtype:
    """A number format of frozen linear layers.

    Attributes:
        name: value of `model.qtype` and `model.qtype_te`.
        source: whose rounding it is.
        bits_per_weight: what one weight costs, its share of the scales included.
        layout: what the numbers are, and what shares a scale.
        needs: what it can be trained on. The weights are multiplied in `train.dtype`, so none asks for more.
        computes_in_8_bit: the oldest GPU generation whose 8-bit matrix units take the stored numbers as they are; None
            if no GPU does.
    """

    name: str
    source: str
    bits_per_weight: float
    layout: str
    needs: str = "CPU or any GPU"
    computes_in_8_bit: str | None = None


_TURING, _ADA = "Turing (RTX 20)", "Ada (RTX 40) or Hopper"

QTYPES = {
    qtype.name: qtype
    for qtype in (
        Qtype("qfloat8", QUANTO, 8.0, "float8 (e4m3), a scale for each row", computes_in_8_bit=_ADA),
        Qtype("qint8", QUANTO, 8.0, "8-bit integers, a scale for each row", computes_in_8_bit=_TURING),
        Qtype("qint4", QUANTO, 4.25, "16 even steps from the least to the largest of each 128"),
        Qtype("qint2", QUANTO, 2.25, "4 even steps from the least to the largest of each 128"),
        Qtype("float8", OURS, 8.0, "float8 (e4m3), a scale for each row", computes_in_8_bit=_ADA),
        Qtype("int8", OURS, 8.0, "8-bit integers, a scale for each row", computes_in_8_bit=_TURING),
        Qtype("uint4", OURS, 4.5, "16 even steps from the least to the largest of each 64"),
        Qtype("int4", OURS, 4.25, "15 even steps around zero, a scale for each 64"),
        Qtype("nf4", OURS, 4.25, "16 steps that suit a normal distribution, a scale for each 64"),
    )
}


def bits_of(qtype: str | None, width: int) -> float:
    """Bits of one weight in a linear layer that is held in `qtype`, or else in numbers of `width` bytes."""
    return 8 * width if qtype is None else QTYPES[qtype].bits_per_weight
