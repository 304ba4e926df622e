"""The smallest FLUX.2 that is one: every class is the real one, every width is next to nothing, every weight random."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from transformers import Qwen3Config, Qwen3Model

from tests.tiny import TINY
from toolkit.files import write_json

HEAD_DIM, TEXT_WIDTH, LATENT_CHANNELS, VAE_WIDTH = 8, 8, 4, 4
TEXT_LAYERS = 27  # the last hidden state that klein reads


def write_smallest_model(folder: Path, *, num_heads: int = 1) -> Path:
    """A klein pipeline of some 10,000 weights in diffusers' layout; its tokenizer is that of the tiny FLUX.2."""
    torch.manual_seed(0)
    _transformer(num_heads).save_pretrained(folder / "transformer")
    _vae().save_pretrained(folder / "vae")
    _text_encoder().save_pretrained(folder / "text_encoder")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")
    write_json(folder / "model_index.json", {"_class_name": "Flux2KleinPipeline", "is_distilled": False})
    return folder


def _transformer(num_heads: int) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=num_heads,
        joint_attention_dim=3 * TEXT_WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )


def _vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        block_out_channels=(VAE_WIDTH,) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=32,
    )


def _text_encoder() -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=405,  # of the tiny FLUX.2's tokenizer
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=64,
    )
    return Qwen3Model(config)
