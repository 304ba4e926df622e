"""A prompt inside its chat template, as the text encoder gets it, and where it is cut when it is too long."""

from __future__ import annotations

from typing import Any

from diffusers.pipelines.flux2.pipeline_flux2 import format_input

from toolkit.models.prompt_cut import PromptCut


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
