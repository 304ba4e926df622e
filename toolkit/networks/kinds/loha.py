"""LoHa: the elementwise product of two low-rank matrices (Hyeon-Woo et al. 2021, arXiv 2108.06098)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.lora.layer_rows import Roles
from toolkit.networks.part import Part, Site, Start, Whole, must_fit
from toolkit.networks.settings import LayerSettings, Shape


class LohaPart(Part):
    """`scale * (w1_a @ w1_b) * (w2_a @ w2_b)`, elementwise.

    It is computed as the product of rank r^2 that it equals: row (i, j) of A is w1_b[i] * w2_b[j], column (i, j) of B
    is w1_a[:, i] * w2_a[:, j]. So the whole matrix is never formed.
    """

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        rank = settings.rank
        self.hada_w1_a = nn.Parameter(0.1 * _normal((shape.outputs, rank), "hada_w1_a", start))
        self.hada_w1_b = nn.Parameter(_normal((rank, shape.inputs), "hada_w1_b", start))
        self.hada_w2_a = nn.Parameter(torch.zeros(shape.outputs, rank))
        self.hada_w2_b = nn.Parameter(_normal((rank, shape.inputs), "hada_w2_b", start))

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part."""
        a = (self.hada_w1_b[:, None] * self.hada_w2_b[None]).flatten(0, 1)  # [rank^2, inputs]
        b = (site.rows(self.hada_w1_a)[:, :, None] * site.rows(self.hada_w2_a)[:, None]).flatten(1)  # [rows, rank^2]
        change = functional.linear(functional.linear(x.to(a.dtype), a), b)
        return (output + change * (self.settings.scale * strength)).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        both = (self.hada_w1_a @ self.hada_w1_b) * (self.hada_w2_a @ self.hada_w2_b)
        return both.detach() * self.settings.scale

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """See Part."""
        found = self.values(whole)
        return {**found, "hada_w1_a": found["hada_w1_a"] * self.settings.scale}

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """See Part."""
        must_fit(roles, {name: tuple(parameter.shape) for name, parameter in self.named_parameters()})
        for name, parameter in self.named_parameters():
            parameter.copy_(roles[name] / self.settings.scale if name == "hada_w1_a" else roles[name])


def _normal(shape: tuple[int, int], role: str, start: Start) -> Tensor:
    """Numbers with mean 0 and deviation 1, uniform; LyCORIS draws normal ones."""
    return (start(shape, role) * 2 - 1) * 3**0.5
