"""Prompts to FLUX.2's prompt embeddings: three hidden layers of a language model, side by side.

The prompt templates and the stacking are diffusers' own, so that training and inference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from torch import Tensor

# Changes whenever the template or the layers change: part of the cache key of every embedding.
TEMPLATE_VERSION = 1

_ENCODERS: Mapping[str, Callable[..., Tensor]] = {
    # FLUX.2's system message, then the user's turn.
    "mistral": Flux2Pipeline._get_mistral_3_small_prompt_embeds,
    # The user's turn only, thinking off.
    "qwen3": Flux2KleinPipeline._get_qwen3_prompt_embeds,
}


@torch.no_grad()
def encode(
    kind: str, text_encoder: Any, tokenizer: Any, prompts: Sequence[str], *, layers: Sequence[int], max_tokens: int
) -> Tensor:
    """Prompt embeddings.

    Args:
        kind: `mistral` (dev) or `qwen3` (klein).
        text_encoder: MistralModel or Qwen3Model, whole or its first max(layers) layers without the final norm.
        tokenizer: as `load_tokenizer` gives it; dev's pads on the left, klein's on the right.
        prompts: B texts.
        layers: hidden states to stack (`hidden_states[k]` is the output after k layers).
        max_tokens: length of every prompt after padding, template included.

    Returns:
        [B, max_tokens, len(layers) * hidden size] in the encoder's dtype.
    """
    options = {"max_sequence_length": max_tokens, "hidden_states_layers": list(layers)}
    return torch.cat([_ENCODERS[kind](text_encoder, tokenizer, prompt, **options) for prompt in prompts])
