"""Prompts to FLUX.2's prompt embeddings: three hidden layers of a language model, side by side.

The prompt templates and the stacking are diffusers' own, so that training and inference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from torch import Tensor

# Changes whenever the template or the layers change: part of the cache key of every embedding.
TEMPLATE_VERSION = 1


@torch.no_grad()
def encode_klein(
    text_encoder: Any, tokenizer: Any, prompts: Sequence[str], *, layers: Sequence[int], max_tokens: int
) -> Tensor:
    """Prompt embeddings of the klein models (Qwen3, user turn only, thinking off, padded on the right).

    Args:
        text_encoder: Qwen3Model, whole or its first max(layers) layers without the final norm.
        tokenizer: as `load_tokenizer` gives it, padding on the right.
        prompts: B texts.
        layers: hidden states to stack (`hidden_states[k]` is the output after k layers).
        max_tokens: length of every prompt after padding, template included.

    Returns:
        [B, max_tokens, len(layers) * hidden size] in the encoder's dtype.
    """
    embeds = [
        Flux2KleinPipeline._get_qwen3_prompt_embeds(
            text_encoder,
            tokenizer,
            prompt,
            max_sequence_length=max_tokens,
            hidden_states_layers=list(layers),
        )
        for prompt in prompts
    ]
    return torch.cat(embeds)


@torch.no_grad()
def encode_dev(
    text_encoder: Any, tokenizer: Any, prompts: Sequence[str], *, layers: Sequence[int], max_tokens: int
) -> Tensor:
    """Prompt embeddings of FLUX.2 dev (Mistral 3 with FLUX.2's system message, padded on the left).

    Arguments and result as `encode_klein`, for MistralModel and a tokenizer that pads on the left.
    """
    embeds = [
        Flux2Pipeline._get_mistral_3_small_prompt_embeds(
            text_encoder,
            tokenizer,
            prompt,
            max_sequence_length=max_tokens,
            hidden_states_layers=list(layers),
        )
        for prompt in prompts
    ]
    return torch.cat(embeds)
