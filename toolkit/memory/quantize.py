"""Quantized weights for the frozen base, by optimum-quanto."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optimum.quanto import QModuleMixin, freeze, qfloat8, qint4, qint8, quantize
from torch import nn

from toolkit.errors import UserError

QTYPES = {"qfloat8": qfloat8, "qint8": qint8, "qint4": qint4}


def quantize_linears(model: nn.Module, qtype: str, *, names: Sequence[str]) -> None:
    """Replace the named linear layers by quantized ones, in place, one after another.

    Args:
        model: frozen.
        qtype: a key of `QTYPES`.
        names: dotted names of linear layers; every one of them is quantized or an error is raised.

    Raises:
        UserError: unknown qtype.
        RuntimeError: a layer could not be quantized.
    """
    if qtype not in QTYPES:
        raise UserError(f"model.qtype: unknown value `{qtype}`. Known: {', '.join(QTYPES)}")
    for name in names:
        parent_name, _, leaf = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        quantize(parent, weights=QTYPES[qtype], include=[leaf])
        layer = getattr(parent, leaf) if not leaf.isdigit() else parent[int(leaf)]  # type: ignore[index]
        if not isinstance(layer, QModuleMixin):
            raise RuntimeError(f"{name}: could not be quantized to {qtype}")
        freeze(layer)


def quantizer(model: nn.Module, qtype: str, *, names: Sequence[str]) -> Callable[[str], None]:
    """What quantizes each of the named linear layers when it is told that the layer's weight has been loaded."""
    layers = {f"{name}.weight": name for name in names}

    def quantize_loaded(placed: str) -> None:
        if placed in layers:
            quantize_linears(model, qtype, names=[layers[placed]])

    return quantize_loaded
