"""The pieces of blocks, compiled: each reads what it takes once, and writes what it gives once.

Some are written once more for the compiler, which has no complex numbers, and cannot write to a part of a tensor that
it also reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from extensions_built_in.diffusion_models.lean import pieces
from extensions_built_in.diffusion_models.lean.pieces import Pieces
from toolkit.compute.compiler import Compiler


def compiled_pieces(compiler: Compiler, own: Pieces) -> Pieces:
    """The pieces, each compiled at its first call, and as they are written once compiling has failed."""
    found = {}
    for field in fields(own):
        piece = getattr(own, field.name)
        found[field.name] = compiler.compiled(FOR_COMPILER.get(piece, piece), piece)
    return Pieces(**found)


def _modulate_backward_trained(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, past: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    wide = gradient.to(x.dtype).float()
    to_weight = (wide * ((x - mean) * rstd)).sum(1, keepdim=True).to(x.dtype)
    to_shift = wide.sum(1, keepdim=True).to(x.dtype)
    return pieces.modulate_backward(gradient, x, weight, mean, rstd, past), to_shift, to_weight


def _turn(heads: Tensor, rrms: Tensor, weight: Tensor, rotation: Tensor) -> Tensor:
    return _rotated(heads * rrms * weight, rotation)


def _turn_backward(gradient: Tensor, heads: Tensor, rrms: Tensor, weight: Tensor, back: Tensor) -> Tensor:
    to_unit, unit = _rotated(gradient, back) * weight, heads * rrms
    along = (to_unit * unit).mean(-1, keepdim=True)
    return (to_unit - unit * along) * rrms


def _gated(values: Tensor, out: Tensor) -> None:
    gate, up = values.chunk(2, dim=-1)
    out.copy_(functional.silu(gate) * up)


def _gated_backward(gradient: Tensor, values: Tensor, out: Tensor) -> Tensor:
    gate, up = values.chunk(2, dim=-1)
    activated = functional.silu(gate)
    to_gate = torch.ops.aten.silu_backward(gradient * up, gate)
    product = activated * up
    out.copy_(torch.cat([to_gate, gradient * activated], dim=-1))
    return product


def _gelu(values: Tensor, out: Tensor) -> None:
    out.copy_(functional.gelu(values, approximate="tanh"))


def _gelu_backward(gradient: Tensor, values: Tensor, out: Tensor) -> Tensor:
    activated = functional.gelu(values, approximate="tanh")
    out.copy_(torch.ops.aten.gelu_backward(gradient, values, approximate="tanh"))
    return activated


def _rotated(heads: Tensor, rotation: Tensor) -> Tensor:
    real, imaginary = heads.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotation.unbind(-1)
    turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return turned.flatten(-2)


# The pieces that the compiler needs written another way.
FOR_COMPILER: dict[Any, Callable[..., Any]] = {
    pieces.modulate_backward_trained: _modulate_backward_trained,
    pieces.turn: _turn,
    pieces.turn_backward: _turn_backward,
    pieces.gated: _gated,
    pieces.gated_backward: _gated_backward,
    pieces.gelu: _gelu,
    pieces.gelu_backward: _gelu_backward,
}
