"""Assemble the tiny FLUX.2 from an untrained transformer, VAE and text encoder, in diffusers' folder layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from torch import nn
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from extensions_built_in.diffusion_models.flux2.released_files import SCHEDULER
from toolkit.files import write_json

TRANSFORMER = {
    "in_channels": 64,  # 16 latent channels of 2 x 2 patches
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 32,
    "num_attention_heads": 6,
    "joint_attention_dim": 192,  # three layers of 64 channels
    "axes_dims_rope": (8, 8, 8, 8),
    "guidance_embeds": False,
}
_ORIGIN = ("_name_or_path", "is_local", "local_files_only")
_STARTS_AT_ZERO = ("_modulation", "norm_out", "proj_out")


def make_transformer(*, seed: int = 0) -> Flux2Transformer2DModel:
    """An untrained transformer in fp32, with Xavier weights but zero modulation and output.

    Every block starts as the identity (adaLN-Zero: gates of zero, Peebles & Xie 2023, arXiv 2212.09748).
    """
    transformer = Flux2Transformer2DModel(**TRANSFORMER)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in transformer.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            if any(part in name for part in _STARTS_AT_ZERO):
                module.weight.zero_()
            else:
                std = math.sqrt(2 / (module.in_features + module.out_features))
                module.weight.copy_(std * torch.randn(module.weight.shape, generator=generator))
    return transformer


def save_pipeline(
    folder: Path,
    *,
    vae: AutoencoderKLFlux2,
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2TokenizerFast,
    transformer: Flux2Transformer2DModel,
) -> None:
    """Write a klein-type pipeline (true CFG, not distilled); every part keeps its dtype."""
    pipeline = Flux2KleinPipeline(
        # The pipeline itself derives the shift from the image size.
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=False,
    )
    pipeline.save_pretrained(folder)
    for name in ("vae/config.json", "transformer/config.json", "tokenizer/tokenizer_config.json"):
        _forget_origin(folder / name)


def _forget_origin(path: Path) -> None:
    """Remove the libraries' notes on where a part was loaded from, which are paths on this machine."""
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {key: value for key, value in config.items() if key not in _ORIGIN})
