"""OFT: outputs rotated in blocks by orthogonal matrices (Qiu et al. 2023, arXiv 2306.07280), as LyCORIS writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.lora.layer_rows import Roles
from toolkit.networks.part import Part, Site, Start, Whole, must_fit
from toolkit.networks.settings import LayerSettings, Shape, oft_block


class OftPart(Part):
    """W' = R^T W with R of orthogonal blocks, the Cayley transforms (I + Q)(I - Q)^-1 of skew-symmetric matrices Q.

    Rotating a layer's outputs is the same as rotating the rows of its weight, and reads no weight. Only the entries of
    Q above the diagonal are trained.
    """

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        self.size = oft_block(shape, settings)
        number = shape.outputs // self.size
        self.oft_triangles = nn.Parameter(torch.zeros(number, self.size * (self.size - 1) // 2))

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part."""
        layer: Any = site.layers[site.index]
        bias = layer.bias
        plain = (output if bias is None else output - bias.to(output.dtype)).unflatten(-1, (-1, self.size))
        turns = self._turns(torch.cat([self.oft_triangles[a // self.size : b // self.size] for a, b in site.ranges]))
        change = torch.einsum("...kn,knm->...km", plain, turns.to(plain.dtype)).flatten(-2)
        return (output + change * strength).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        turns = self._turns(self.oft_triangles.detach())
        return torch.einsum("knm,knc->kmc", turns, weight.float().unflatten(0, (-1, self.size))).flatten(0, 1)

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """See Part."""
        return {"oft_blocks": self._upper(whole(self.oft_triangles))}

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """See Part."""
        must_fit(roles, {"oft_blocks": (len(self.oft_triangles), self.size, self.size)})
        rows, columns = torch.triu_indices(self.size, self.size, 1)
        skew = roles["oft_blocks"] - roles["oft_blocks"].transpose(1, 2)  # readers use only the difference
        self.oft_triangles.copy_(skew[:, rows, columns])

    def _turns(self, triangles: Tensor) -> Tensor:
        """R - I of each block, [number, size, size], fp32: small at first, where R in bf16 would be the identity."""
        with torch.autocast(triangles.device.type, enabled=False):
            upper = self._upper(triangles)
            skew = upper - upper.transpose(1, 2)
            identity = torch.eye(self.size, device=skew.device)
            return 2 * torch.linalg.solve(identity - skew, skew)

    def _upper(self, triangles: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.size, self.size, 1, device=triangles.device)
        upper = triangles.new_zeros(len(triangles), self.size * self.size)
        return upper.index_copy(1, rows * self.size + columns, triangles).unflatten(1, (self.size, self.size))
