"""Dropout of tokens: processes that share a sequence drop what a single one would drop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.memory.recompute import BlockValue


@dataclass(frozen=True)
class TokenShare:
    """The part that this process has of a pass: equal parts of the text and of the image, in order.

    Attributes:
        position: which part, from 0.
        count: number of parts.
        num_text: tokens of the whole text; `count` divides it.
        num_image: tokens of the whole image with its references; `count` divides it.
    """

    position: int
    count: int
    num_text: int
    num_image: int

    def cut(self, whole: Tensor) -> Tensor:
        """This process' tokens, [B, S / count, ...], of a text, an image, or both in this order, [B, S, ...]."""
        if whole.shape[1] != self.num_text + self.num_image:
            return whole.chunk(self.count, dim=1)[self.position]
        text, image = whole.split([self.num_text, self.num_image], dim=1)
        return torch.cat([part.chunk(self.count, dim=1)[self.position] for part in (text, image)], dim=1)


SHARE: BlockValue[TokenShare | None] = BlockValue(None)
"""The share of the pass that runs; None if this process has all tokens. Also set while backward recomputes a block."""


def dropout(x: Tensor, share: float, *, training: bool) -> Tensor:
    """Dropout of the tokens [B, S, C] that this process holds, as one process drops those of whole sequences.

    Args:
        x: tokens, or what belongs to whole samples [B, C], of which every process has the same.
        share: probability of each number to be dropped, 0 to 1.
        training: whether anything is dropped.
    """
    tokens = SHARE.value
    if not training or share == 0 or tokens is None or x.ndim < 3:
        return functional.dropout(x, share, training)
    # All draw the whole mask: their generators stay at the same place, which is that of a single process.
    whole = x.new_ones(x.shape[0], x.shape[1] * tokens.count, *x.shape[2:])
    return x * tokens.cut(functional.dropout(whole, share, training=True))
