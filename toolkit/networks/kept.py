"""What each kind of network keeps for its backward pass beside what a LoRA keeps: torch-free, for the memory plan.

A LoRA keeps a copy of each layer's input, which the sizes of blocks include. The formulas follow from the operators of
`toolkit.networks.kinds`; a test holds them against storages counted while the real classes run.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.networks.settings import LayerSettings, Shape, lokr_split, oft_block


@dataclass(frozen=True)
class Kept:
    """Bytes at one layer, more than a LoRA has; below 0 if less.

    Attributes:
        per_token: kept from the forward to the backward pass, per token.
        held: the same, whatever the number of tokens.
        passing: alive only while the layer's backward pass runs, per token.
    """

    per_token: float = 0.0
    held: float = 0.0
    passing: float = 0.0


def nothing(shape: Shape, settings: LayerSettings, *, is_mixed: bool) -> Kept:
    """What a LoRA keeps is the measure."""
    return Kept()


def lokr(shape: Shape, settings: LayerSettings, *, is_mixed: bool) -> Kept:
    """What lies between the two products, for each layer; in fp32 also copies of an input that fused layers share."""
    width, fused = (2 if is_mixed else 4), shape.num_layers
    (o1, o2), (i1, i2) = (lokr_split(size, settings.factor) for size in (shape.outputs, shape.inputs))
    rows = -(-o1 // fused)
    inner_first = i1 * o2 * (i2 + rows) <= rows * i2 * (i1 + o2)
    inner = (i1 * o2 if inner_first else rows * i2) * fused
    copies = 0 if is_mixed else (fused - 1) * shape.inputs
    return Kept(width * (inner + copies), passing=width * inner if is_mixed else 0)


def loha(shape: Shape, settings: LayerSettings, *, is_mixed: bool) -> Kept:
    """Inner values of rank r^2, and A and B of that rank for each layer."""
    width, fused, rank = (2 if is_mixed else 4), shape.num_layers, settings.rank
    made = rank**2 * (shape.inputs * fused + shape.outputs)
    return Kept(width * fused * (rank**2 - rank), held=(1.5 if is_mixed else 4) * made)


def dora(shape: Shape, settings: LayerSettings, *, is_mixed: bool) -> Kept:
    """The input before and after it is scaled, in fp32, for each layer; fused layers share the first."""
    fused = shape.num_layers
    return Kept(shape.inputs * ((4 + 4 * fused) if is_mixed else 8 * fused))


def oft(shape: Shape, settings: LayerSettings, *, is_mixed: bool) -> Kept:
    """The outputs instead of the inputs, and the rotations with what they are solved from."""
    width, fused = (2 if is_mixed else 4), shape.num_layers
    inputs = shape.inputs * (fused if is_mixed else 1)
    held = (14 if is_mixed else 18) * shape.outputs * oft_block(shape, settings)
    return Kept(
        width * (shape.outputs - inputs),
        held=held,
        passing=width * 3 * min(shape.inputs, shape.outputs) if is_mixed else 0,
    )
