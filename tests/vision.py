"""Tiny vision encoders of every kind, with random weights, in the layouts of released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from scripts.flux2_tiny.vision import PROCESSOR

_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
_SEEN = {"image_size": 32, "patch_size": 8}
_TEXT = {**_SIZES, "vocab_size": 50, "max_position_embeddings": 8}
_DINO = {**_SIZES, **_SEEN, "num_register_tokens": 4}

# name -> (class of the model that is saved, its configuration, kind)
ENCODERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", {**_SIZES, **_SEEN}, "siglip"),
    "siglip with text": (
        "SiglipModel",
        "SiglipConfig",
        {"vision_config": {**_SIZES, **_SEEN}, "text_config": _TEXT},
        "siglip",
    ),
    "siglip2 naflex": (
        "Siglip2VisionModel",
        "Siglip2VisionConfig",
        {**_SIZES, "patch_size": 8, "num_patches": 16},
        "siglip2",
    ),
    "clip": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", {**_SIZES, **_SEEN, "projection_dim": 24}, "clip"),
    "clip with text": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": {**_SIZES, **_SEEN, "projection_dim": 24}, "text_config": _TEXT, "projection_dim": 24},
        "clip",
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**_SIZES, **_SEEN, "mlp_ratio": 2}, "dinov2"),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", _DINO, "dinov3"),
}


def write_encoder(folder: Path, name: str, *, seed: int = 0, processor: dict[str, Any] | None = None) -> Path:
    """Write the encoder with its image processor's settings. Returns the folder."""
    model, config, options, _ = ENCODERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = getattr(transformers, model)(getattr(transformers, config)(**options))
    made.save_pretrained(folder)
    settings = {**PROCESSOR, "size": {"height": 32, "width": 32}, **(processor or {})}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def write_tokenizer(folder: Path) -> Path:
    """Write a tokenizer for the text side of a tiny SigLIP: it knows a few words. Returns the folder."""
    words = ["<pad>", "<unk>", "a", "red", "blue", "cat", "circle"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder
