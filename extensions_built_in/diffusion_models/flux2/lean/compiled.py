"""The pieces of FLUX.2's blocks, compiled: each reads what it takes once, and writes what it gives once.

Some are written once more for the compiler, which has no complex numbers, and cannot write to a part of a tensor that
it also reads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from extensions_built_in.diffusion_models.flux2.lean import pieces
from extensions_built_in.diffusion_models.flux2.lean.pieces import Pieces
from toolkit.compute.compiler import Compiler


def compiled_pieces(compiler: Compiler) -> Pieces:
    """The pieces, each compiled at its first call, and as they are written once compiling has failed."""
    return Pieces(
        modulate=compiler.compiled(pieces.modulate, pieces.modulate),
        modulate_backward=compiler.compiled(pieces.modulate_backward, pieces.modulate_backward),
        rrms=compiler.compiled(pieces.rrms, pieces.rrms),
        turn=compiler.compiled(_turn, pieces.turn),
        turn_backward=compiler.compiled(_turn_backward, pieces.turn_backward),
        gated=compiler.compiled(_gated, pieces.gated),
        gated_backward=compiler.compiled(_gated_backward, pieces.gated_backward),
    )


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


def _rotated(heads: Tensor, rotation: Tensor) -> Tensor:
    real, imaginary = heads.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotation.unbind(-1)
    turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return turned.flatten(-2)
