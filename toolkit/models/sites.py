"""The layers of a transformer that adapters add to, as every model names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """One attention layer.

    Attributes:
        query: module whose output is the query of every head before position embedding, [B, tokens, heads, head size].
        output: module whose input begins with the attention's output, [B, tokens, heads * head size (+ more)].
        num_heads, head_size: sizes of the query.
        is_joint: whether the tokens are those of the prompt followed by those of the image; otherwise the image's only.
        is_double: whether prompt and image have weights of their own in this block.
    """

    query: nn.Module
    output: nn.Module
    num_heads: int
    head_size: int
    is_joint: bool
    is_double: bool


def site_of(attention: Any, output: nn.Module, *, is_double: bool) -> AttentionSite:
    """The site of an attention layer of diffusers' FLUX classes; in single blocks, prompt and image are joint."""
    return AttentionSite(
        query=attention.norm_q,
        output=output,
        num_heads=attention.inner_dim // attention.head_dim,
        head_size=attention.head_dim,
        is_joint=not is_double,
        is_double=is_double,
    )


@dataclass(frozen=True, eq=False)
class Positions:
    """How attention knows the positions of tokens: queries and keys are rotated by them.

    Attributes:
        rotation: cosines and sines for positions [tokens, axes], each [tokens, head size].
        reference_time: time coordinate of the first reference image.
    """

    rotation: Callable[[Tensor], tuple[Tensor, Tensor]]
    reference_time: int

    @staticmethod
    def rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Queries or keys [B, tokens, heads, head size], rotated."""
        turned: Tensor = apply_rotary_emb(heads, rotation, sequence_dim=1)
        return turned

    def on_image(self, image: Tensor, *, rows: int, columns: int) -> Tensor:
        """Positions of a reference's tokens, as a grid that is scaled to cover the whole image.

        Args:
            image: positions (t, h, w, ...) of the image's tokens, [S, axes].
            rows, columns: the grid.

        Returns:
            [rows * columns, axes], row by row; a token's height and width are those of the centre of its cell.
        """
        first, last = image.amin(dim=0).float(), image.amax(dim=0).float()
        size = last - first + 1
        y = first[1] - 0.5 + size[1] * (torch.arange(rows).to(image.device) + 0.5) / rows
        x = first[2] - 0.5 + size[2] * (torch.arange(columns).to(image.device) + 0.5) / columns
        placed = first.repeat(rows, columns, 1)  # [rows, columns, axes]
        placed[..., 0] = self.reference_time
        placed[..., 1], placed[..., 2] = y.unsqueeze(1), x
        return placed.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Ends:
    """The first and the last layer of a transformer, where time enters, and how attention knows positions.

    Attributes:
        image_embedder: linear layer from image tokens [B, S, C] to the hidden size.
        time_embedder: module whose output [B, hidden size] conditions every block; its first argument is the time [B].
        output: linear layer from the hidden size to the prediction's channels, [B, S, C].
        positions: how attention knows the positions of tokens.
        image_embedder_name, output_name: dotted names of the two layers.
        prompt_width: width of the prompt's embeddings.
        append_rows: adds rows [B, M, D] to the end of a prompt's embeddings [B, L, D].
    """

    image_embedder: nn.Module
    time_embedder: nn.Module
    output: nn.Module
    positions: Positions
    image_embedder_name: str
    output_name: str
    prompt_width: int
    append_rows: Callable[[Tensor, Tensor], Tensor]
