"""Lets the frozen layers of a module multiply in 8 bits."""

from __future__ import annotations

from torch import nn

from toolkit.compute.choices import COMPUTES
from toolkit.quantize.frozen_linear import FrozenLinear


def use_compute(module: nn.Module, name: str) -> int:
    """Let the quantized layers of a module multiply as a row of `COMPUTES` says.

    Returns:
        The number of layers that multiply in 8 bits.
    """
    row = COMPUTES[name]
    layers = [layer for layer in module.modules() if isinstance(layer, FrozenLinear)]
    for layer in layers:
        layer.product = row.product_for(layer.qtype) if row.is_8_bit else None
    return len(layers) if row.is_8_bit else 0
