"""The number formats for frozen weights: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice

QUANTO, OURS = "optimum-quanto", "this trainer"


@dataclass(frozen=True, kw_only=True)
class Qtype(Choice):
    """A number format for frozen linear layers; `load` returns its Format, `says` describes the number layout.

    Attributes:
        source: the library whose rounding it uses.
        bits_per_weight: bits per weight, including its share of the scales.
        needs: hardware that training needs. Weights can be multiplied in `train.dtype`, so no format needs more.
        cost: loss of quality, on the scale of `toolkit.plan.changes.Change.cost`, for the memory plan's choice of what
            fits; None if the plan never proposes the format.
    """

    source: str
    bits_per_weight: float
    needs: str = "CPU or any GPU"
    cost: float | None = None

    @property
    def memory(self) -> str:
        """See Choice."""
        return f"{self.bits_per_weight:g} bits per weight"


QTYPES = {
    "qfloat8": Qtype(
        "toolkit.quantize.formats.quanto:QFLOAT8",
        summary="float8 (e4m3), a scale per row",
        source=QUANTO,
        bits_per_weight=8.0,
        cost=1.0,
    ),
    "qint8": Qtype(
        "toolkit.quantize.formats.quanto:QINT8",
        summary="8-bit integers, a scale per row",
        source=QUANTO,
        bits_per_weight=8.0,
    ),
    "qint4": Qtype(
        "toolkit.quantize.formats.quanto:QINT4",
        summary="16 even steps from the smallest to the largest of each 128 weights",
        source=QUANTO,
        bits_per_weight=4.25,
        cost=4.0,
    ),
    "qint2": Qtype(
        "toolkit.quantize.formats.quanto:QINT2",
        summary="4 even steps from the smallest to the largest of each 128 weights",
        source=QUANTO,
        bits_per_weight=2.25,
        cost=20.0,
    ),
    "float8": Qtype(
        "toolkit.quantize.formats.rows:FLOAT8",
        summary="float8 (e4m3), a scale per row",
        source=OURS,
        bits_per_weight=8.0,
    ),
    "int8": Qtype(
        "toolkit.quantize.formats.rows:INT8",
        summary="8-bit integers, a scale per row",
        source=OURS,
        bits_per_weight=8.0,
    ),
    "uint4": Qtype(
        "toolkit.quantize.formats.groups:UINT4",
        summary="16 even steps from the smallest to the largest of each 64 weights",
        source=OURS,
        bits_per_weight=4.5,
    ),
    "int4": Qtype(
        "toolkit.quantize.formats.groups:INT4",
        summary="15 even steps around zero, a scale per 64 weights",
        source=OURS,
        bits_per_weight=4.25,
    ),
    "nf4": Qtype(
        "toolkit.quantize.formats.groups:NF4",
        summary="16 steps suited to a normal distribution, a scale per 64 weights",
        source=OURS,
        bits_per_weight=4.25,
    ),
    **{
        f"uint{bits}": Qtype(
            f"toolkit.quantize.formats.shards:UINT{bits}",
            summary=f"{2**bits} even steps from the smallest to the largest of each 64 weights",
            source=OURS,
            bits_per_weight=bits + 0.5,
        )
        for bits in (7, 6, 5, 3, 2)
    },
    "nvfp4": Qtype(
        "toolkit.quantize.formats.fp4:NVFP4",
        summary="4-bit floats (e2m1), a scale in float8 per 16 weights",
        source=OURS,
        bits_per_weight=4.5,
    ),
    "convrot8": Qtype(
        "toolkit.quantize.formats.rotated:INT8",
        summary="8-bit integers of a rotated weight, a scale per row",
        source=OURS,
        spellings=("convrotint8",),
        bits_per_weight=8.0,
    ),
    **{
        f"convrotint{bits}": Qtype(
            f"toolkit.quantize.formats.rotated:ROTATED_{bits}",
            summary=f"{2**bits - 1} even steps around zero of a rotated weight, a scale per 64 weights",
            source=OURS,
            bits_per_weight=bits + 0.25,
        )
        for bits in (7, 6, 5, 4, 3)
    },
    "convrotint2": Qtype(
        "toolkit.quantize.formats.rotated:ROTATED_TERNARY",
        summary="-1, 0 or 1 step of a rotated weight, a scale per 64 weights",
        source=OURS,
        spellings=("convrotbitnet",),
        bits_per_weight=2.25,
    ),
    "convrot4": Qtype(
        "toolkit.quantize.formats.rotated:NVFP4",
        summary="`nvfp4` of a rotated weight",
        source=OURS,
        bits_per_weight=4.5,
    ),
}


def bits_of(qtype: str | None, width: int) -> float:
    """Bits per weight of a linear layer in format `qtype`; if that is None, of unquantized ones of `width` bytes."""
    return 8 * width if qtype is None else QTYPES[qtype].bits_per_weight
