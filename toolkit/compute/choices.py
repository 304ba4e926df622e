"""The number formats that frozen weights can be multiplied in: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.choice import Choice


@dataclass(frozen=True, kw_only=True)
class Compute(Choice):
    """A number format for products; `load` returns its RowProduct.

    Attributes:
        qtypes: the formats of stored weights that are multiplied as they are stored; empty if any will do.
        capability: lowest compute capability of a CUDA card; None if every card can.
        on_cpu: whether a CPU can.
        needs: the hardware in words.
    """

    qtypes: tuple[str, ...] = ()
    capability: tuple[int, int] | None = None
    on_cpu: bool = True
    needs: str = "CPU or any GPU"

    @property
    def is_8_bit(self) -> bool:
        """Whether both factors have 8 bits."""
        return bool(self.qtypes)


COMPUTES = {
    "bf16": Compute(
        "toolkit.compute.choices:NO_PRODUCT",
        summary="in `train.dtype`; quantized weights are dequantized for each product",
    ),
    "int8": Compute(
        "toolkit.compute.int8:INT8",
        summary="8-bit integers, a scale per token and per row of the weight",
        qtypes=("int8", "qint8"),
        capability=(8, 0),
        needs="CPU, or an NVIDIA GPU of the RTX 30 series or newer",
    ),
    "fp8": Compute(
        "toolkit.compute.fp8:FP8",
        summary="float8 (e4m3), a scale per token and per row of the weight",
        qtypes=("float8", "qfloat8"),
        capability=(8, 9),
        on_cpu=False,
        needs="an NVIDIA GPU of the RTX 40 series, Hopper or newer",
    ),
}
AUTO = "auto"
COMPUTE_SETTINGS = {
    **COMPUTES,
    AUTO: Choice(
        "toolkit.compute.choices:NO_PRODUCT",
        summary="in 8 bits where weights are stored in a format that this machine multiplies, else as bf16",
    ),
}
NO_PRODUCT = None
