"""Encodes prompts into FLUX.2's prompt embeddings: chat template, tokenizer, and three stacked hidden states.

The prompt templates and the stacking are diffusers' own, so that training and inference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from jinja2 import TemplateError
from torch import Tensor

from toolkit.errors import UserError
from toolkit.json_files import read_json
from toolkit.models.prompt_cut import PromptCut
from toolkit.weights.text_folder import read_tokenizer

# Increase whenever the template or the layers change: part of the cache key of every embedding.
TEMPLATE_VERSION = 1

_ENCODERS: Mapping[str, Callable[..., Tensor]] = {
    # FLUX.2's system message, then the prompt as the user's message.
    "mistral": Flux2Pipeline._get_mistral_3_small_prompt_embeds,
    # Only the prompt as the user's message, with thinking disabled.
    "qwen3": Flux2KleinPipeline._get_qwen3_prompt_embeds,
}
# Older processors store the chat template in a separate file that the tokenizer does not read.
_TEMPLATE_FILES = ("chat_template.json", "processor_config.json")
_PROMPT = "a red fox"


@torch.no_grad()
def encode(
    kind: str, text_encoder: Any, tokenizer: Any, prompts: Sequence[str], *, layers: Sequence[int], max_tokens: int
) -> Tensor:
    """Encode prompts.

    Args:
        kind: type of the text encoder: `mistral` (dev) or `qwen3` (klein).
        text_encoder: MistralModel or Qwen3Model, either whole or only its first max(layers) layers without final norm.
        tokenizer: the tokenizer from `load_tokenizer`; dev's pads on the left, klein's on the right.
        prompts: B prompts.
        layers: indices of the hidden states to stack (`hidden_states[k]` is the output after k layers).
        max_tokens: length of every prompt after padding, template included.

    Returns:
        [B, max_tokens, len(layers) * hidden size] in the encoder's dtype.
    """
    options = {"max_sequence_length": max_tokens, "hidden_states_layers": list(layers)}
    return torch.cat([_ENCODERS[kind](text_encoder, tokenizer, prompt, **options) for prompt in prompts])


def load_tokenizer(folder: Path, *, padding_side: Literal["left", "right"]) -> Any:
    """The tokenizer of a folder, with its chat template.

    Raises:
        UserError: the tokenizer or its chat template is missing.
    """
    tokenizer = read_tokenizer(folder, padding_side=padding_side)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _template_of_processor(folder)
    if tokenizer.chat_template is None:
        raise UserError(
            f"{folder}: the tokenizer has no chat template, which prompts are encoded with. Add chat_template.jinja "
            "from the model's own repository."
        )
    return tokenizer


def check_template(tokenizer: Any, render: Callable[[Any, str], str], folder: Path) -> None:
    """Check that the chat template includes the prompt.

    Raises:
        UserError: the template is damaged or omits the prompt.
    """
    try:
        rendered = render(tokenizer, _PROMPT)
    except (TemplateError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: the chat template is damaged ({error}). Download the folder again.") from error
    if _PROMPT not in rendered:
        raise UserError(f"{folder}: the chat template omits the prompt. Download the folder again.")


def render_klein(tokenizer: Any, prompt: str) -> str:
    """The chat of klein: the prompt as the user's message, then the start of an answer without thinking."""
    messages = [{"role": "user", "content": prompt}]
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    )


def render_dev(tokenizer: Any, prompt: str) -> str:
    """The chat of dev: FLUX.2's system message, then the prompt as the user's message."""
    return str(tokenizer.apply_chat_template(format_input([prompt])[0], tokenize=False, add_generation_prompt=False))


def find_cut(tokenizer: Any, prompt: str, rendered: str, *, max_tokens: int) -> PromptCut | None:
    """Where a prompt is cut; None if all of it is read.

    Args:
        tokenizer: a fast tokenizer (with offsets) that truncates at the end.
        prompt: the prompt as the user wrote it.
        rendered: the prompt inside its template.
        max_tokens: number of tokens of `rendered` that are read.
    """
    encoded = tokenizer(rendered, return_offsets_mapping=True, add_special_tokens=False)
    num_tokens = len(encoded["input_ids"])
    if num_tokens <= max_tokens:
        return None
    end = encoded["offset_mapping"][max_tokens - 1][1]
    # Templates may strip the prompt, and the system message comes before it.
    start = max(rendered.rfind(prompt.strip()), 0)
    words = prompt.strip() if start else rendered
    cut_at = min(max(end - start, 0), len(words))
    return PromptCut(num_tokens, max_tokens, words[:cut_at], words[cut_at:])


def _template_of_processor(folder: Path) -> str | None:
    for name in _TEMPLATE_FILES:
        path = folder / name
        if path.is_file():
            template = read_json(path).get("chat_template")
            if isinstance(template, str):
                return template
    return None
