"""The elementwise pieces of blocks, forward and backward; what backward needs again is made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Modulation:
    """What one sublayer is modulated by, each [B, 1, h].

    Attributes:
        shift: added after the norm.
        weight: factor after the norm, 1 + scale.
        gate: factor of what the sublayer adds to the residual stream.
    """

    shift: Tensor
    weight: Tensor
    gate: Tensor


@dataclass(frozen=True)
class Rotation:
    """The rotation of heads by their positions: cosine and sine, and cosine and -sine, [n, 1, 1, head size / 2, 2]."""

    forward: Tensor
    back: Tensor

    def of_tokens(self, tokens: slice) -> Rotation:
        """The rotation of some tokens."""
        return Rotation(self.forward[tokens], self.back[tokens])


def modulations(values: Tensor, *, width: int) -> list[Tensor]:
    """Shift, weight and gate of each sublayer in turn, each [B, 1, h], from what a modulation layer gives [B, ...]."""
    # Copies, because a view would keep `values` alive, whose end is the end of what was made of it.
    parts = [part.clone() for part in values.unsqueeze(1).split(width, dim=-1)]
    parts[1::3] = [1 + scale for scale in parts[1::3]]
    return parts


def rotation_of(cosine: Tensor, sine: Tensor) -> Rotation:
    """The rotation from cosines and sines that repeat each number twice, [n, head size]."""
    cosine, sine = (each[:, ::2].contiguous()[:, None, None] for each in (cosine, sine))
    return Rotation(torch.stack([cosine, sine], dim=-1), torch.stack([cosine, -sine], dim=-1))


def modulate(x: Tensor, shift: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm(x) * weight + shift` of x [B, n, h], and mean and inverse deviation of x, [B, n, 1], fp32."""
    sizes = [x.shape[-1]]
    if len(x) == 1:  # one modulation for all rows: the norm's own weight and bias, in one pass
        y, mean, rstd = torch.native_layer_norm(x, sizes, weight.flatten(), shift.flatten(), eps)
        return y, mean, rstd
    y, mean, rstd = torch.native_layer_norm(x, sizes, None, None, eps)
    return torch.addcmul(shift, y, weight), mean, rstd


def modulate_backward(gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, past: Tensor) -> Tensor:
    """The gradient of x, in its dtype, from that of what `modulate` gave, and `past`, the part that goes past it."""
    gradient = gradient.to(x.dtype)
    own = weight.flatten() if len(x) == 1 else None
    gradient = gradient if len(x) == 1 else gradient * weight
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        gradient, x, [x.shape[-1]], mean, rstd, own, None, [True, False, False]
    )[0]
    return found.add_(past)


def modulate_backward_trained(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, past: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What `modulate_backward` gives, and the gradients of shift and weight, each [B, 1, h]."""
    gradient, found = gradient.to(x.dtype), []
    for one in range(len(x)):  # sample by sample, so that the norm's own weight and bias are the modulation
        own, place = weight[one].flatten(), slice(one, one + 1)
        parts = (gradient[place], x[place], [x.shape[-1]], mean[place], rstd[place])
        found.append(torch.ops.aten.native_layer_norm_backward(*parts, own, own, [True, True, True]))
    to_x, to_weight, to_shift = zip(*found, strict=True)
    whole = to_x[0] if len(x) == 1 else torch.cat(to_x)
    return whole.add_(past), torch.stack(to_shift).unsqueeze(1), torch.stack(to_weight).unsqueeze(1)


def rrms(heads: Tensor, eps: Tensor) -> Tensor:
    """The inverse root mean square of each head, [B, n, 2, heads, 1], fp32."""
    norm = torch.linalg.vector_norm(heads, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.addcmul(eps, norm, norm, value=1 / heads.shape[-1]).rsqrt_()


def turn(heads: Tensor, rrms: Tensor, weight: Tensor, rotation: Tensor) -> Tensor:
    """The heads, normed and rotated, fp32; see `HeadNorm` and `Rotation`."""
    normed = (heads * rrms).mul_(weight)
    turned = torch.view_as_complex(normed.unflatten(-1, (-1, 2))).mul_(torch.view_as_complex(rotation))
    return torch.view_as_real(turned).flatten(-2)


def turn_backward(gradient: Tensor, heads: Tensor, rrms: Tensor, weight: Tensor, back: Tensor) -> Tensor:
    """The gradient of the heads, fp32, from that of what `turn` gave, fp32, which may be overwritten.

    With u the head divided by its root mean square and g the gradient towards u: (g - u * mean(g * u)) / rms.
    """
    if gradient.stride(-1) != 1:  # some attention kernels give it transposed
        gradient = gradient.contiguous()
    torch.view_as_complex(gradient.unflatten(-1, (-1, 2))).mul_(torch.view_as_complex(back))
    to_unit, unit = gradient.mul_(weight), heads * rrms
    along = (to_unit * unit).mean(-1, keepdim=True)
    return to_unit.addcmul_(unit, along, value=-1).mul_(rrms)


def gated(values: Tensor, out: Tensor) -> None:
    """Write `silu(gate) * up` to `out` [..., m], given gate and up side by side, [..., 2 * m]."""
    gate, up = values.chunk(2, dim=-1)
    torch.mul(functional.silu(gate), up, out=out)


def gated_backward(gradient: Tensor, values: Tensor, out: Tensor) -> Tensor:
    """Write the gradient of `values` to `out`, which may be `values`; returns what `gated` gave."""
    gate, up = values.chunk(2, dim=-1)
    to_gate, to_up = out.chunk(2, dim=-1)
    activated = functional.silu(gate)
    product, towards = activated * up, gradient * up
    torch.mul(gradient, activated, out=to_up)
    torch.ops.aten.silu_backward.grad_input(towards, gate, grad_input=to_gate)
    return product


def gelu(values: Tensor, out: Tensor) -> None:
    """Write `gelu(values)` in its approximation by tanh to `out`, [..., m]."""
    torch.ops.aten.gelu.out(values, approximate="tanh", out=out)


def gelu_backward(gradient: Tensor, values: Tensor, out: Tensor) -> Tensor:
    """Write the gradient of `values` to `out`, which may be `values`; returns what `gelu` gave."""
    activated = functional.gelu(values, approximate="tanh")
    torch.ops.aten.gelu_backward.grad_input(gradient, values, approximate="tanh", grad_input=out)
    return activated


@dataclass(frozen=True)
class Pieces:
    """The functions above as a block calls them; compiled ones take and give the same.

    `activate` is what the MLP does between its layers.
    """

    modulate: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]] = modulate
    modulate_backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = modulate_backward
    modulate_backward_trained: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]
    ] = modulate_backward_trained
    rrms: Callable[[Tensor, Tensor], Tensor] = rrms
    turn: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = turn
    turn_backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = turn_backward
    activate: Callable[[Tensor, Tensor], None] = gated
    activate_backward: Callable[[Tensor, Tensor, Tensor], Tensor] = gated_backward


class HeadNorm:
    """The RMS norms of queries and keys, and the rotation after them. Heads are [B, n, 2, heads, head size].

    Args:
        norms: the norm layer of queries and that of keys, frozen.
        device: the device of the computation.
        pieces: computes it.

    Attributes:
        head_size: channels of a head.
    """

    def __init__(self, norms: Sequence[torch.nn.RMSNorm], device: torch.device, pieces: Pieces) -> None:
        self.weight = torch.stack([norm.weight.detach().float() for norm in norms]).unsqueeze(1).to(device)
        self.head_size: int = self.weight.shape[-1]
        assert norms[0].eps is not None
        self.eps = torch.tensor(norms[0].eps, device=device)
        self.pieces = pieces

    def of_keys(self) -> HeadNorm:
        """The norm of keys alone, [B, n, 1, heads, head size]."""
        found = copy(self)
        found.weight = self.weight[1:]
        return found

    def rrms(self, heads: Tensor) -> Tensor:
        """See `pieces.rrms`."""
        return self.pieces.rrms(heads, self.eps)

    def forward(self, heads: Tensor, rrms: Tensor, rotation: Rotation) -> Tensor:
        """See `pieces.turn`."""
        return self.pieces.turn(heads, rrms, self.weight, rotation.forward)

    def backward(self, gradient: Tensor, heads: Tensor, rrms: Tensor, rotation: Rotation) -> Tensor:
        """See `pieces.turn_backward`."""
        return self.pieces.turn_backward(gradient, heads, rrms, self.weight, rotation.back)


def cast(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """The tensors in these dtypes, with one operator for all that change."""
    found = list(tensors)
    changed = [index for index, (own, dtype) in enumerate(zip(tensors, dtypes, strict=True)) if own.dtype != dtype]
    if changed:
        for index in changed:
            found[index] = torch.empty_like(tensors[index], dtype=dtypes[index])
        torch._foreach_copy_([found[index] for index in changed], [tensors[index] for index in changed])
    return found
