"""The change of a weight in full, as it would be in a full fine-tune of the layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.lora.layer_rows import Roles
from toolkit.networks.part import Part, Site, Start, Whole, must_fit
from toolkit.networks.settings import LayerSettings, Shape


class FullPart(Part):
    """A matrix as large as the weight, which starts at zero. The frozen weight may be quantized."""

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        self.diff = nn.Parameter(torch.zeros(shape.outputs, shape.inputs))

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part."""
        change = functional.linear(x.to(self.diff.dtype), site.rows(self.diff))
        return (output + change * strength).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        return self.diff.detach()

    def tensors(self, whole: Whole = Tensor.detach) -> Roles:
        """See Part."""
        return self.values(whole)

    def read(self, roles: Mapping[str, Tensor]) -> None:
        """See Part."""
        must_fit(roles, {"diff": tuple(self.diff.shape)})
        self.diff.copy_(roles["diff"])
