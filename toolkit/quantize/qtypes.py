"""The number formats that frozen weights can be held in: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice

QUANTO, OURS = "optimum-quanto", "this trainer"


@dataclass(frozen=True, kw_only=True)
class Qtype(Choice):
    """A number format of frozen linear layers; `load` gives its Format, `says` is how the numbers are laid out.

    Attributes:
        source: whose rounding it is.
        bits_per_weight: what one weight costs, its share of the scales included.
        needs: what it can be trained on. The weights are multiplied in `train.dtype`, so none asks for more.
        computes_in_8_bit: the oldest GPU generation whose 8-bit matrix units take the stored numbers as they are; None
            if no GPU does.
        cost: what it takes in quality when the memory plan looks for what fits, on the scale of
            `toolkit.plan.changes.Change`; None if the plan does not propose it.
    """

    source: str
    bits_per_weight: float
    needs: str = "CPU or any GPU"
    computes_in_8_bit: str | None = None
    cost: float | None = None

    @property
    def memory(self) -> str:
        """See Choice."""
        return f"{self.bits_per_weight:g} bits a weight"


_TURING, _ADA = "Turing (RTX 20)", "Ada (RTX 40) or Hopper"

QTYPES = {
    "qfloat8": Qtype(
        "toolkit.quantize.formats.quanto:QFLOAT8",
        says="float8 (e4m3), a scale for each row",
        source=QUANTO,
        bits_per_weight=8.0,
        computes_in_8_bit=_ADA,
        cost=1.0,
    ),
    "qint8": Qtype(
        "toolkit.quantize.formats.quanto:QINT8",
        says="8-bit integers, a scale for each row",
        source=QUANTO,
        bits_per_weight=8.0,
        computes_in_8_bit=_TURING,
    ),
    "qint4": Qtype(
        "toolkit.quantize.formats.quanto:QINT4",
        says="16 even steps from the least to the largest of each 128",
        source=QUANTO,
        bits_per_weight=4.25,
        cost=4.0,
    ),
    "qint2": Qtype(
        "toolkit.quantize.formats.quanto:QINT2",
        says="4 even steps from the least to the largest of each 128",
        source=QUANTO,
        bits_per_weight=2.25,
        cost=20.0,
    ),
    "float8": Qtype(
        "toolkit.quantize.formats.rows:FLOAT8",
        says="float8 (e4m3), a scale for each row",
        source=OURS,
        bits_per_weight=8.0,
        computes_in_8_bit=_ADA,
    ),
    "int8": Qtype(
        "toolkit.quantize.formats.rows:INT8",
        says="8-bit integers, a scale for each row",
        source=OURS,
        bits_per_weight=8.0,
        computes_in_8_bit=_TURING,
    ),
    "uint4": Qtype(
        "toolkit.quantize.formats.groups:UINT4",
        says="16 even steps from the least to the largest of each 64",
        source=OURS,
        bits_per_weight=4.5,
    ),
    "int4": Qtype(
        "toolkit.quantize.formats.groups:INT4",
        says="15 even steps around zero, a scale for each 64",
        source=OURS,
        bits_per_weight=4.25,
    ),
    "nf4": Qtype(
        "toolkit.quantize.formats.groups:NF4",
        says="16 steps that suit a normal distribution, a scale for each 64",
        source=OURS,
        bits_per_weight=4.25,
    ),
}


def bits_of(qtype: str | None, width: int) -> float:
    """Bits of one weight in a linear layer that is held in `qtype`, or else in numbers of `width` bytes."""
    return 8 * width if qtype is None else QTYPES[qtype].bits_per_weight
