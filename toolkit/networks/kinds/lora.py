"""LoRA: a product of two low-rank matrices (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.lora.update import Update
from toolkit.networks.dropout import dropout
from toolkit.networks.part import Part, Site, Start, Whole, kaiming
from toolkit.networks.settings import LayerSettings, Shape


class LoraPart(Part):
    """`scale * B @ A`. Layers that the released model fuses share A, so that an update of rank r has rank r there."""

    is_lora = True

    def __init__(self, shape: Shape, settings: LayerSettings, start: Start) -> None:
        super().__init__(shape, settings, start)
        rank, rows = settings.rank, shape.outputs // shape.num_layers
        # Kaiming uniform as in peft, and zeros.
        self.lora_A = nn.Parameter(kaiming((rank, shape.inputs), "lora_A", start))
        self.lora_B = nn.ParameterList([nn.Parameter(torch.zeros(rows, rank)) for _ in range(shape.num_layers)])

    def after(self, x: Tensor, output: Tensor, site: Site, strength: float, *, training: bool) -> Tensor:
        """See Part."""
        inner = functional.linear(x.to(self.lora_A.dtype), self.lora_A)
        inner = dropout(inner, self.settings.dropout, training=training)
        if training and self.settings.rank_dropout:
            inner = _without_ranks(inner, self.settings.rank_dropout)
        change = functional.linear(inner, self.lora_B[site.index])
        factor = self.settings.scale * strength
        if not torch.is_grad_enabled() and change.dtype == output.dtype:  # the same bits in half of the memory
            return output.add_(change.mul_(factor))
        return (output + change * factor).to(output.dtype)

    def delta(self, weight: Tensor) -> Tensor:
        """See Part."""
        return self.update().delta()

    def update(self, whole: Whole = Tensor.detach) -> Update:
        """The change, with the rows in the order of the loaded model's layers."""
        b = torch.cat([whole(part) for part in self.lora_B])
        return Update(whole(self.lora_A), b * self.settings.scale)

    def load(self, update: Update) -> None:
        """Take over an update of at most this rank, with the rows in the order of the loaded model's layers."""
        # Rows that the file does not fill keep their random values: with A and B both zero they would never learn.
        self.lora_A[: update.rank] = update.a.to(self.lora_A.device)
        sizes = [part.shape[0] for part in self.lora_B]
        for own, part in zip(self.lora_B, (update.b / self.settings.scale).split(sizes), strict=True):
            own.zero_()[:, : update.rank] = part.to(own.device)


def _without_ranks(inner: Tensor, share: float) -> Tensor:
    """Inner activations [B, ..., rank] without some of the ranks, others in each sample; the rest makes up for them."""
    mask = torch.rand(inner.shape[0], *(1,) * (inner.ndim - 2), inner.shape[-1], device=inner.device) >= share
    return inner * mask / (1 - share)
