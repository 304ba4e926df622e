"""FLUX.1's two encodings of a prompt as one tensor, so that caches and batches handle it as any model's.

The rows are T5's, and below them one that holds CLIP's vector, filled up with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def to_rows(text: Tensor, pooled: Tensor) -> Tensor:
    """One tensor of both.

    Args:
        text: T5's hidden states, [B, L, D].
        pooled: CLIP's vector, [B, P], P at most D.

    Returns:
        [B, L + 1, D].
    """
    assert pooled.shape[1] <= text.shape[2], f"a vector of {pooled.shape[1]} in rows of {text.shape[2]}"
    row = functional.pad(pooled, (0, text.shape[2] - pooled.shape[1])).to(text)  # [B, D]
    return torch.cat([text, row.unsqueeze(1)], dim=1)


def from_rows(prompt_embeds: Tensor, pooled_size: int) -> tuple[Tensor, Tensor]:
    """The inverse of `to_rows`: T5's states [B, L, D] and CLIP's vector [B, pooled_size]."""
    return prompt_embeds[:, :-1], prompt_embeds[:, -1, :pooled_size]
