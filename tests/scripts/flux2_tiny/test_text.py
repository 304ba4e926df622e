"""The tiny text side keeps what captions say."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from scripts.flux2_tiny.text import MAX_LENGTH, encode, make_text_encoder, make_tokenizer
from scripts.flux2_tiny.world import COLORS, EMBLEM, PLACES, RADIUS_PX, SHAPES, Scene, random_scene


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2TokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="module")
def text_encoder(tokenizer: Qwen2TokenizerFast) -> Qwen3ForCausalLM:
    return make_text_encoder(tokenizer)


def test_every_word_of_the_world_is_one_token(tokenizer: Qwen2TokenizerFast) -> None:
    words = " ".join([*COLORS, *SHAPES, *RADIUS_PX, *PLACES, EMBLEM, "a with background"]).split()
    assert [word for word in words if len(tokenizer.tokenize(f" {word}")) != 1] == []
    assert [word for word in words if len(tokenizer.tokenize(word)) != 1] == []


@pytest.mark.parametrize("text", ["Größe, 漢字 🦊", "\x00\t[trigger] ohwx  man\n\n.", "ZORBO123", ""])
def test_any_text_survives_the_tokenizer(tokenizer: Qwen2TokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_is_kleins(tokenizer: Qwen2TokenizerFast) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a zorbo"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert text == "<|im_start|>user\na zorbo<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ids = tokenizer(text, padding="max_length", max_length=MAX_LENGTH)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "<|endoftext|>"
    assert ids.index(tokenizer.pad_token_id) == 13 + 2 - 1


def test_two_makings_are_equal(tokenizer: Qwen2TokenizerFast, text_encoder: Qwen3ForCausalLM) -> None:
    again = make_tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    for one, other in zip(make_text_encoder(again).parameters(), text_encoder.parameters(), strict=True):
        assert torch.equal(one, other)


def test_embeds_have_a_sane_scale(tokenizer: Qwen2TokenizerFast, text_encoder: Qwen3ForCausalLM) -> None:
    draw = random.Random(0)
    embeds = encode(tokenizer, text_encoder, [random_scene(draw).caption() for _ in range(8)]).float()
    assert embeds.shape == (8, MAX_LENGTH, 192)
    for layer in embeds.split(64, dim=-1):
        assert 0.8 < float(layer.std()) < 2
        assert float(layer.abs().max()) < 10


def test_a_linear_probe_reads_unseen_captions_from_their_embeds(
    tokenizer: Qwen2TokenizerFast, text_encoder: Qwen3ForCausalLM
) -> None:
    draw = random.Random(1)
    scenes = [random_scene(draw) for _ in range(500)]
    embeds = torch.cat([encode(tokenizer, text_encoder, [s.caption() for s in part]) for part in _parts(scenes, 100)])
    features = embeds.double().mean(dim=1)  # [500, 192]
    features = torch.cat([features, torch.ones(len(scenes), 1)], dim=1)
    seen, unseen = features[:400], features[400:]
    for prop in ("color", "place", "shape", "background", "size"):
        values = sorted({getattr(scene, prop) for scene in scenes})
        labels = torch.tensor([values.index(getattr(scene, prop)) for scene in scenes])
        targets = torch.nn.functional.one_hot(labels[:400]).double()
        weights = torch.linalg.solve(seen.T @ seen + 1e-3 * torch.eye(193, dtype=torch.float64), seen.T @ targets)
        right = (unseen @ weights).argmax(dim=1) == labels[400:]
        assert float(right.float().mean()) > 0.95, prop


def _parts(scenes: list[Scene], size: int) -> list[list[Scene]]:
    return [scenes[start : start + size] for start in range(0, len(scenes), size)]
