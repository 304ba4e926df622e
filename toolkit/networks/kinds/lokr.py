"""LoKr: a Kronecker product of two small matrices (Yeh et al. 2023, arXiv 2309.14859), as LyCORIS shapes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.lora.layer_rows import Range, Roles
from toolkit.networks.dropout import dropout
from toolkit.networks.part import Part, Site, Start, Whole, kaiming, must_fit
from toolkit.networks.settings import LayerSettings, Shape, lokr_rank, lokr_split


class LokrPart(Part):
    """`scale * kron(w1, w2)`, with w2 = w2_a @ w2_b at a low rank. The product itself is never formed in training.

    The scale is 1 if both matrices are full.
    """

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        (o1, self.o2), (self.i1, self.i2) = (
            lokr_split(size, settings.factor) for size in (shape.outputs, shape.inputs)
        )
        rank = lokr_rank(shape, settings)
        self.scale = 1.0 if rank is None else settings.scale
        self.lokr_w1 = nn.Parameter(kaiming((o1, self.i1), "lokr_w1", start))
        if rank is None:
            self.lokr_w2 = nn.Parameter(torch.zeros(self.o2, self.i2))
        else:
            self.lokr_w2_a = nn.Parameter(torch.zeros(self.o2, rank))
            self.lokr_w2_b = nn.Parameter(kaiming((rank, self.i2), "lokr_w2_b", start))

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part."""
        x, w2 = x.to(self.lokr_w1.dtype), self._w2() * (self.scale * strength)
        changes = [self._rows(x, w2, rows) for rows in site.ranges]
        change = changes[0] if len(changes) == 1 else torch.cat(changes, dim=-1)
        return (output + dropout(change, self.settings.dropout, training=training)).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        return torch.kron(self.lokr_w1, self._w2() * self.scale).detach()

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """See Part."""
        found = self.values(whole)
        return {**found, "lokr_w1": found["lokr_w1"] * self.scale}

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """See Part."""
        must_fit(roles, {name: tuple(parameter.shape) for name, parameter in self.named_parameters()})
        for name, parameter in self.named_parameters():
            parameter.copy_(roles[name] / self.scale if name == "lokr_w1" else roles[name])

    def _w2(self) -> Tensor:
        """[o2, i2]; small, so that its product costs next to nothing."""
        return self.lokr_w2 if hasattr(self, "lokr_w2") else self.lokr_w2_a @ self.lokr_w2_b

    def _rows(self, x: Tensor, w2: Tensor, rows: Range) -> Tensor:
        """Some rows of kron(w1, w2) @ x: x is split into [i1, i2], and the two small matrices act on its two sides."""
        first, last = rows[0] // self.o2, -(-rows[1] // self.o2)
        w1 = self.lokr_w1[first:last]  # [o1, i1]
        split = x.unflatten(-1, (self.i1, self.i2))
        if self.i1 * self.o2 * (self.i2 + len(w1)) <= len(w1) * self.i2 * (self.i1 + self.o2):
            product = torch.matmul(w1, functional.linear(split, w2))
        else:
            product = functional.linear(torch.matmul(w1, split), w2)
        flat = product.flatten(-2)  # [..., o1 * o2]
        begin = first * self.o2
        return flat if flat.shape[-1] == rows[1] - rows[0] else flat[..., rows[0] - begin : rows[1] - begin]
