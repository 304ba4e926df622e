"""The number formats that frozen weights can be multiplied in: plain data, readable without torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.choice import Choice


@dataclass(frozen=True, kw_only=True)
class Compute(Choice):
    """A number format for products.

    Attributes:
        products: how weights of a format are multiplied as they are stored: a RowProduct, as `module:name`; empty if
            weights of any format are dequantized.
        capability: lowest compute capability of a CUDA card; None if every card can.
        on_cpu: whether a CPU can.
        needs: the hardware in words.
    """

    products: Mapping[str, str] = field(default_factory=dict, hash=False)
    capability: tuple[int, int] | None = None
    on_cpu: bool = True
    needs: str = "CPU or any GPU"

    @property
    def is_8_bit(self) -> bool:
        """Whether both factors have 8 bits."""
        return bool(self.products)

    def product_for(self, qtype: str) -> Any:
        """Import the RowProduct for weights of a format."""
        module, _, name = self.products[qtype].partition(":")
        return getattr(importlib.import_module(module), name)


COMPUTES = {
    "bf16": Compute(
        "toolkit.compute.choices:NO_PRODUCT",
        summary="in `train.dtype`; quantized weights are dequantized for each product",
    ),
    "int8": Compute(
        "toolkit.compute.int8:INT8",
        summary="8-bit integers, a scale per token and per row of the weight",
        products={
            "int8": "toolkit.compute.int8:INT8",
            "qint8": "toolkit.compute.int8:INT8",
            "convrot8": "toolkit.compute.int8:ROTATED_INT8",
        },
        capability=(8, 0),
        needs="CPU, or an NVIDIA GPU of the RTX 30 series or newer",
    ),
    "fp8": Compute(
        "toolkit.compute.fp8:FP8",
        summary="float8 (e4m3), a scale per token and per row of the weight",
        products={"float8": "toolkit.compute.fp8:FP8", "qfloat8": "toolkit.compute.fp8:FP8"},
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
