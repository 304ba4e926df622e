"""The tiny FLUX.2's text encoder: a tokenizer for the world's words, and a frozen Qwen3 with random weights."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import torch
from diffusers import Flux2KleinPipeline
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from scripts.flux2_tiny.world import COLORS, EMBLEM, PLACES, RADIUS_PX, SHAPES

MAX_LENGTH = 48
"""Number of tokens per prompt, including the template (13 tokens) and padding."""
PAD, TURN_START, TURN_END, THINK_START, THINK_END = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
)
# Newlines are inside expressions: Jinja would strip a bare one after a block.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
# With embeddings of unit standard deviation tokens stay recognisable, and what the 27 random layers add conveys the
# context without drowning them out.
EMBEDDING_STD = 1.0
LINEAR_STD = 0.07


def make_tokenizer() -> Qwen2TokenizerFast:
    """A byte-level BPE tokenizer trained on the world's captions: one token per known word, bytes for all others."""
    # The pre-tokenizer comes from an empty Qwen tokenizer, so that text is split in the same way at training and use.
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = Qwen2TokenizerFast().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2000,  # never reached: merging stops once every word is one token
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(_texts(), trainer)
    bpe = json.loads(trained.to_str())["model"]
    return Qwen2TokenizerFast(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],
        unk_token=PAD,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[TURN_START, TURN_END, THINK_START, THINK_END],
        padding_side="right",
        model_max_length=MAX_LENGTH,
        chat_template=CHAT_TEMPLATE,
    )


def make_text_encoder(tokenizer: Qwen2TokenizerFast, *, seed: int = 0) -> Qwen3ForCausalLM:
    """A Qwen3 with the depth of FLUX.2 klein's and 64 channels; its random weights are never trained.

    It has 28 layers, because klein's prompt embeddings are the hidden states after layers 9, 18 and 27.

    Returns:
        the model in bf16 and eval mode.
    """
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=28,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=1024,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:  # the norms stay at 1
                std = EMBEDDING_STD if "embed_tokens" in name else LINEAR_STD
                parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return model.to(torch.bfloat16).eval().requires_grad_(False)


@torch.no_grad()
def encode(tokenizer: Qwen2TokenizerFast, model: Qwen3ForCausalLM, prompts: list[str]) -> Tensor:
    """Encode prompts into prompt embeddings, [B, 48, 192], with diffusers' own code."""
    embeds: Tensor = Flux2KleinPipeline._get_qwen3_prompt_embeds(
        model, tokenizer, prompts, max_sequence_length=MAX_LENGTH
    )
    return embeds


def _texts() -> Iterator[str]:
    """Captions in every phrasing, the words of the chat template, and every word with and without a leading space."""
    yield "user\nassistant\n\n"
    things = [f"{size} {color} {shape}" for size, color, shape in itertools.product(RADIUS_PX, COLORS, SHAPES)]
    for thing, place in itertools.product([*things, EMBLEM], PLACES):
        for background in COLORS:
            yield f"a {thing} {place} on a {background} background"
            yield f"{background} background with a {thing} {place}"
    for word in " ".join([*COLORS, *SHAPES, *RADIUS_PX, *PLACES, EMBLEM, "a with on background"]).split():
        yield word
        yield f" {word}"
