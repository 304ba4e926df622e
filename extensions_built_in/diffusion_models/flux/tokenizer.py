"""The two tokenizers of FLUX.1, and where T5's cuts a prompt that is too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.models.prompt_cut import PromptCut


@dataclass(frozen=True)
class Tokenizers:
    """Of CLIP, which reads the first 77 tokens, and of T5, which reads the prompt."""

    clip: Any
    t5: Any


def find_cut(tokenizer: Any, prompt: str, *, max_tokens: int) -> PromptCut | None:
    """Where T5's tokenizer cuts a prompt, or None where all of it is read."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    num_tokens = len(encoded["input_ids"])
    if num_tokens <= max_tokens:
        return None
    end = encoded["offset_mapping"][max_tokens - 2][1]  # the last one read is the end token
    return PromptCut(num_tokens, max_tokens, prompt[:end], prompt[end:])
