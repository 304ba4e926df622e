"""Prompts to FLUX.1's prompt embeddings: T5's hidden states, and CLIP's vector of the whole prompt.

diffusers' FluxPipeline does the encoding, so that training and inference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from transformers import CLIPTextModel, T5EncoderModel

from extensions_built_in.diffusion_models.flux.prompt_rows import to_rows
from extensions_built_in.diffusion_models.flux.tokenizer import Tokenizers

# Changes whenever prompts are encoded in another way: part of the cache key of every embedding.
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
    """Prompt embeddings.

    Args:
        encoders: loaded.
        tokenizers: theirs.
        prompts: B texts.
        max_tokens: length of every prompt for T5, after padding.

    Returns:
        [B, max_tokens + 1, width of T5] in the encoders' dtype, see `prompt_rows`.
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
