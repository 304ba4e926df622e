"""The two tokenizers of FLUX.1, and where T5's cuts a prompt that is too long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from toolkit.errors import UserError
from toolkit.models.prompt_cut import PromptCut


@dataclass(frozen=True)
class Tokenizers:
    """Of CLIP, which reads the first 77 tokens, and of T5, which reads the prompt."""

    clip: Any
    t5: Any


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        UserError: there is none.
    """
    try:
        # Without a False it asks on the terminal whether to run code that the folder brings along.
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what the libraries raise over a damaged file has no common name
        raise UserError(
            f"{folder}: no tokenizer can be loaded from it ({error}). Download the folder again."
        ) from error


def find_cut(tokenizer: Any, prompt: str, *, max_tokens: int) -> PromptCut | None:
    """Where T5's tokenizer cuts a prompt, or None where all of it is read."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    num_tokens = len(encoded["input_ids"])
    if num_tokens <= max_tokens:
        return None
    end = encoded["offset_mapping"][max_tokens - 2][1]  # the last one read is the end token
    return PromptCut(num_tokens, max_tokens, prompt[:end], prompt[end:])
