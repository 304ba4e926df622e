"""Encodes prompts into FLUX.1's prompt embeddings: T5's hidden states and CLIP's pooled vector in one tensor.

diffusers' FluxPipeline does the encoding, so that training and inference cannot drift apart. The tensor has T5's rows
and, as its last row, CLIP's vector padded with zeros, so that caches and batches need no special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from torch.nn import functional

from toolkit.models.prompt_cut import PromptCut

if TYPE_CHECKING:
    from transformers import CLIPTextModel, T5EncoderModel

# Increase whenever prompts are encoded differently: part of the cache key of every embedding.
ENCODING_VERSION = 1


class TextEncoders(nn.Module):
    """CLIP and T5, frozen, in eval mode."""

    def __init__(self, clip: CLIPTextModel, t5: T5EncoderModel) -> None:
        super().__init__()
        self.clip = clip
        self.t5 = t5
        self.eval()


@torch.no_grad()
def encode(encoders: TextEncoders, tokenizers: Tokenizers, prompts: Sequence[str], *, max_tokens: int) -> Tensor:
    """Encode prompts.

    Args:
        encoders: the loaded text encoders.
        tokenizers: the encoders' tokenizers.
        prompts: B prompts.
        max_tokens: length of every prompt for T5 after padding.

    Returns:
        [B, max_tokens + 1, width of T5] in the encoders' dtype.
    """
    pipeline = FluxPipeline(
        scheduler=None,
        vae=None,
        text_encoder=encoders.clip,
        tokenizer=tokenizers.clip,
        text_encoder_2=encoders.t5,
        tokenizer_2=tokenizers.t5,
        transformer=None,
    )
    rows = [
        to_rows(*pipeline.encode_prompt(prompt, device=encoders.t5.device, max_sequence_length=max_tokens)[:2])
        for prompt in prompts
    ]
    return torch.cat(rows)


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of CLIP, which reads the first 77 tokens, and of T5, which reads the whole prompt."""

    clip: Any
    t5: Any


def find_cut(tokenizer: Any, prompt: str, *, max_tokens: int) -> PromptCut | None:
    """Where T5's tokenizer cuts a prompt; None if all of it is read."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    num_tokens = len(encoded["input_ids"])
    if num_tokens <= max_tokens:
        return None
    end = encoded["offset_mapping"][max_tokens - 2][1]  # the last token read is the end token
    return PromptCut(num_tokens, max_tokens, prompt[:end], prompt[end:])


def to_rows(text: Tensor, pooled: Tensor) -> Tensor:
    """Combine the outputs of both text encoders into one tensor.

    Args:
        text: T5's hidden states, [B, L, D].
        pooled: CLIP's pooled vector, [B, P], P at most D.

    Returns:
        [B, L + 1, D].
    """
    assert pooled.shape[1] <= text.shape[2], f"a vector of {pooled.shape[1]} does not fit into rows of {text.shape[2]}"
    row = functional.pad(pooled, (0, text.shape[2] - pooled.shape[1])).to(text)  # [B, D]
    return torch.cat([text, row.unsqueeze(1)], dim=1)


def from_rows(prompt_embeds: Tensor, pooled_size: int) -> tuple[Tensor, Tensor]:
    """The inverse of `to_rows`: T5's states [B, L, D] and CLIP's vector [B, pooled_size]."""
    return prompt_embeds[:, :-1], prompt_embeds[:, -1, :pooled_size]
