"""DoRA: direction and length of each column of a weight are trained apart (Liu et al. 2024, arXiv 2402.09353)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.lora.layer_rows import Roles
from toolkit.networks.dropout import dropout
from toolkit.networks.part import Part, Site, Start, Whole, kaiming, must_fit
from toolkit.networks.settings import LayerSettings, Shape
from toolkit.quantize.frozen_linear import weight_of


class DoraPart(Part):
    """W' = (W + D) * m / |W + D|, with D = scale * B @ A, a length m for each column, and column norms |.|.

    As in the paper's section 4.3, the norm is a constant for the gradient. By columns as in the paper, and not by rows
    as in peft: ComfyUI reads a length per column right, but divides a length per row by |W|. A column's length is a
    factor of an input, so the frozen layer sees scaled inputs, and no weight is formed. The norm needs only B^T W.
    """

    turns_inputs = True

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        rank = settings.rank
        self.lora_A = nn.Parameter(kaiming((rank, shape.inputs), "lora_A", start))
        self.lora_B = nn.Parameter(torch.zeros(shape.outputs, rank))
        self.dora_scale = nn.Parameter(torch.ones(shape.inputs))
        self._squares: Tensor
        self.register_buffer("_squares", torch.ones(shape.inputs), persistent=False)  # of the columns of W
        self._lengths = self.dora_scale.detach()  # m / |W + D| in the pass that runs

    def attach(self, sites: tuple[Site, ...], whole: Whole = Tensor.detach) -> None:
        """See Part."""
        squares = sum(weight_of(layer, torch.float32, whole).square().sum(dim=0) for layer in sites[0].layers)
        assert isinstance(squares, Tensor)
        self._squares, self._sites = squares, sites
        with torch.no_grad():
            self.dora_scale.copy_(squares.sqrt())

    def before(self, x: Tensor, site: Site, strength: float) -> Tensor:
        """See Part."""
        if site.index == 0:  # of layers that are fused, the first is the first to run
            self._lengths = self.dora_scale / self._norm(x)
        return (x * (1 + strength * (self._lengths - 1))).to(x.dtype)

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part. x has been scaled by `before`."""
        scaled = x.to(self.lora_A.dtype) * (self._lengths / (1 + strength * (self._lengths - 1)))
        inner = dropout(functional.linear(scaled, self.lora_A), self.settings.dropout, training=training)
        change = functional.linear(inner, site.rows(self.lora_B))
        return (output + change * (self.settings.scale * strength)).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        change = self.settings.scale * (self.lora_B @ self.lora_A).detach()
        lengths = self.dora_scale.detach() / (weight.float() + change).norm(dim=0)
        return (lengths - 1) * weight.float() + lengths * change

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """See Part."""
        values = self.values(whole)
        return {
            "lora_A.weight": values["lora_A"],
            "lora_B.weight": values["lora_B"] * self.settings.scale,
            "dora_scale": values["dora_scale"][None],
        }

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """See Part."""
        must_fit(roles, {role: tuple(tensor.shape) for role, tensor in self.tensors().items()})
        self.lora_A.copy_(roles["lora_A.weight"])
        self.lora_B.copy_(roles["lora_B.weight"] / self.settings.scale)
        self.dora_scale.copy_(roles["dora_scale"][0])

    @torch.no_grad()
    def _norm(self, x: Tensor) -> Tensor:
        """|W + D| of each column, [inputs], fp32: |W|^2 + 2 A . (B^T W) + A . (B^T B A), column by column."""
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else torch.float32
        device = self.lora_A.device
        b = self.settings.scale * self.lora_B
        cross = sum(
            (site.rows(b).T.to(dtype) @ weight_of(layer, dtype).to(device)).float()
            for site, layer in zip(self._sites, self._sites[0].layers, strict=True)
        )
        with torch.autocast(device.type, enabled=False):
            own = (b.T @ b) @ self.lora_A
        squares = self._squares + (self.lora_A * (2 * cross + own)).sum(dim=0)
        return squares.clamp(min=1e-12).sqrt()
