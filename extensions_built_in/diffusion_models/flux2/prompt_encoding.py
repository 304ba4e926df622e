"""Prompts to FLUX.2's prompt embeddings: template, tokenizer, and three hidden layers of a language model side by side.

The prompt templates and the stacking are diffusers' own, so that training and inference cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from jinja2 import TemplateError
from torch import Tensor

from toolkit.errors import UserError
from toolkit.models.prompt_cut import PromptCut
from toolkit.weights.text_folder import read_tokenizer

# Changes whenever the template or the layers change: part of the cache key of every embedding.
TEMPLATE_VERSION = 1

_ENCODERS: Mapping[str, Callable[..., Tensor]] = {
    # FLUX.2's system message, then the user's turn.
    "mistral": Flux2Pipeline._get_mistral_3_small_prompt_embeds,
    # The user's turn only, thinking off.
    "qwen3": Flux2KleinPipeline._get_qwen3_prompt_embeds,
}
# Older processors keep the chat template in a file of their own, where the tokenizer does not look for it.
_TEMPLATE_FILES = ("chat_template.json", "processor_config.json")
_PROMPT = "a red fox"


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


def load_tokenizer(folder: Path, *, padding_side: Literal["left", "right"]) -> Any:
    """The tokenizer of a folder, with its chat template.

    Raises:
        UserError: no tokenizer there, or none that knows its chat template.
    """
    tokenizer = read_tokenizer(folder, padding_side=padding_side)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _template_of_processor(folder)
    if tokenizer.chat_template is None:
        raise UserError(
            f"{folder}: the tokenizer has no chat template, and prompts are encoded with one. Add chat_template.jinja "
            "from the model's own repository."
        )
    return tokenizer


def check_template(tokenizer: Any, render: Callable[[Any, str], str], folder: Path) -> None:
    """Put a prompt into the chat template, which must hold it.

    Raises:
        UserError: the template is damaged, or leaves the prompt out.
    """
    try:
        rendered = render(tokenizer, _PROMPT)
    except (TemplateError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: the chat template is damaged ({error}). Download the folder again.") from error
    if _PROMPT not in rendered:
        raise UserError(f"{folder}: the chat template leaves the prompt out. Download the folder again.")


def render_klein(tokenizer: Any, prompt: str) -> str:
    """The user's turn, then the start of an answer that was not thought about."""
    messages = [{"role": "user", "content": prompt}]
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    )


def render_dev(tokenizer: Any, prompt: str) -> str:
    """FLUX.2's system message, then the user's turn."""
    return str(tokenizer.apply_chat_template(format_input([prompt])[0], tokenize=False, add_generation_prompt=False))


def find_cut(tokenizer: Any, prompt: str, rendered: str, *, max_tokens: int) -> PromptCut | None:
    """Where a prompt is cut, or None where all of it is read.

    Args:
        tokenizer: cuts at the end; one that knows where in the text its tokens stand.
        prompt: the user's words.
        rendered: the prompt inside its template.
        max_tokens: how many tokens of `rendered` are read.
    """
    encoded = tokenizer(rendered, return_offsets_mapping=True, add_special_tokens=False)
    num_tokens = len(encoded["input_ids"])
    if num_tokens <= max_tokens:
        return None
    end = encoded["offset_mapping"][max_tokens - 1][1]
    # Templates may trim what they wrap, and the system message stands before the prompt.
    start = max(rendered.rfind(prompt.strip()), 0)
    words = prompt.strip() if start else rendered
    cut_at = min(max(end - start, 0), len(words))
    return PromptCut(num_tokens, max_tokens, words[:cut_at], words[cut_at:])


def _template_of_processor(folder: Path) -> str | None:
    for name in _TEMPLATE_FILES:
        path = folder / name
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{path}: cannot be read ({error}). Download it again.") from error
            template = content.get("chat_template") if isinstance(content, dict) else None
            if isinstance(template, str):
                return template
    return None
