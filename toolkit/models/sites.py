"""The places of a transformer that adapters add to, as every model names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
class Ends:
    """The first and the last layer of a transformer, and where time enters.

    Attributes:
        image_embedder: linear layer from image tokens [B, S, C] to the hidden size.
        time_embedder: module whose output [B, hidden size] conditions every block; its first argument is the time [B].
        output: linear layer from the hidden size to the prediction's channels, [B, S, C].
        image_embedder_name, output_name: dotted names of the two layers.
        prompt_width: width of the prompt's embeddings.
        append_rows: adds rows [B, M, D] to the end of a prompt's embeddings [B, L, D].
    """

    image_embedder: nn.Module
    time_embedder: nn.Module
    output: nn.Module
    image_embedder_name: str
    output_name: str
    prompt_width: int
    append_rows: Callable[[Tensor, Tensor], Tensor]
