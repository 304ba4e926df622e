"""What the sublayers of a block are modulated by: given to the block, or made in it by a layer that may have a LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from extensions_built_in.diffusion_models.lean.linear import LeanLinear
from extensions_built_in.diffusion_models.lean.lora import in_product_dtype
from extensions_built_in.diffusion_models.lean.pieces import Modulation, Pieces
from extensions_built_in.diffusion_models.lean.run import Pass


class Modulator(Protocol):
    """Where the modulation of some sublayers comes from."""

    @property
    def linears(self) -> Sequence[LeanLinear]:
        """The layers of the block that make it."""
        ...

    @property
    def is_trained(self) -> bool:
        """Whether gradients of it are wanted."""
        ...

    def forward(self, run: Pass) -> list[Modulation]:
        """The modulation of each sublayer."""
        ...

    def again(self, run: Pass) -> list[Modulation]:
        """The same, in backward."""
        ...

    def backward(self, gradients: Sequence[Tensor], run: Pass) -> list[list[Tensor]]:
        """The gradients of what is trained at each of `linears`.

        Args:
            gradients: of shift, weight and gate of each sublayer in turn, each [B, 1, h].
            run: the pass.
        """
        ...


@dataclass(frozen=True)
class GivenModulation:
    """Modulation that the block is given, and that gets no gradient.

    Attributes:
        start: where it begins in `Pass.given`.
        num_sublayers: how many it is for.
    """

    start: int
    num_sublayers: int
    linears: Sequence[LeanLinear] = ()
    is_trained: bool = False

    def forward(self, run: Pass) -> list[Modulation]:
        """See Modulator."""
        stop = self.start + 3 * self.num_sublayers
        return [Modulation(*run.given[index : index + 3]) for index in range(self.start, stop, 3)]

    def again(self, run: Pass) -> list[Modulation]:
        """See Modulator."""
        return self.forward(run)

    def backward(self, gradients: Sequence[Tensor], run: Pass) -> list[list[Tensor]]:
        """See Modulator."""
        return []


class MadeModulation:
    """Modulation that a layer of the block makes of the first tensor that it is given, [B, K].

    Args:
        name: of what it keeps.
        linear: K -> shift, scale and gate of each sublayer in turn, h each.
        place: of the layer among those of the block.
        width: h.
    """

    def __init__(self, name: str, linear: LeanLinear, *, place: int, width: int) -> None:
        self.linears: Sequence[LeanLinear] = (linear,)
        self._name = f"{name} modulation"
        self._place = place
        self._width = width

    @property
    def is_trained(self) -> bool:
        """See Modulator."""
        return self.linears[0].num_trained > 0

    def forward(self, run: Pass) -> list[Modulation]:
        """See Modulator."""
        linear, frozen, lora = self.linears[0], run.frozen[self._place], run.loras[self._place]
        values, inner = linear.forward(run.given[0], frozen, lora)
        run.keep(**{self._name: values, f"{self._name} inner": inner})
        return self._parts(values)

    def again(self, run: Pass) -> list[Modulation]:
        """See Modulator."""
        return self._parts(run.kept[self._name])

    def backward(self, gradients: Sequence[Tensor], run: Pass) -> list[list[Tensor]]:
        """See Modulator."""
        lora = run.loras[self._place]
        if lora is None:
            return [[]]
        gradient = in_product_dtype(torch.cat(list(gradients), dim=-1).squeeze(1))
        inner, to_inner = run.kept[f"{self._name} inner"], lora.to_inner(gradient)
        return [lora.gradients([run.given[0]], inner, gradient, to_inner).tensors(lora)]

    def _parts(self, values: Tensor) -> list[Modulation]:
        shift, scale, gate = values.view(len(values), 1, -1, 3, self._width).unbind(3)  # each [B, 1, sublayers, h]
        weight = 1 + scale
        return [Modulation(shift[:, :, at], weight[:, :, at], gate[:, :, at]) for at in range(shift.shape[2])]


class Sublayer:
    """The norm and the modulation of a sublayer in one backward pass, with the gradients of the modulation.

    Args:
        by: what it is modulated by.
        pieces: computes it.
        is_trained: whether gradients of `by` are wanted.

    Attributes:
        gradients: of shift, weight and gate, once each is known; empty if they are not wanted.
    """

    def __init__(self, by: Modulation, pieces: Pieces, *, is_trained: bool) -> None:
        self.by = by
        self.is_trained = is_trained
        self.gradients: list[Tensor] = []
        self._pieces = pieces

    def gate_backward(self, gradient: Tensor, output: Tensor | None) -> Tensor:
        """The gradient of what the gate is multiplied with, `output`, from that of the product; [B, n, h]."""
        if self.is_trained:
            assert output is not None, "it is kept if the modulation is trained"
            self.gradients = [(gradient * output).sum(1, keepdim=True)]
        return gradient * self.by.gate

    def norm_backward(self, gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, past: Tensor) -> Tensor:
        """The gradient of x, see `pieces.modulate_backward`; comes after that of the gate."""
        if not self.is_trained:
            return self._pieces.modulate_backward(gradient, x, self.by.weight, mean, rstd, past)
        to_x, *found = self._pieces.modulate_backward_trained(gradient, x, self.by.weight, mean, rstd, past)
        self.gradients = [*found, *self.gradients]
        return to_x
