"""The assembled folder is a FLUX.2 klein that diffusers loads and draws with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline, Flux2KleinPipeline

from scripts.flux2_tiny.assemble import make_transformer, save_pipeline
from scripts.flux2_tiny.dataset import held_out_emblems
from scripts.flux2_tiny.draw import draw_scenes, load_pipeline
from scripts.flux2_tiny.text import make_text_encoder, make_tokenizer
from scripts.flux2_tiny.vae import CONFIG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initial")
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    save_pipeline(
        folder,
        vae=AutoencoderKLFlux2(**CONFIG).to(torch.bfloat16),
        text_encoder=make_text_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=make_transformer(),
    )
    return folder


def test_diffusers_loads_the_folder_and_draws(folder: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    assert isinstance(pipeline, Flux2KleinPipeline)
    assert not pipeline.config.is_distilled
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        prompt="a small red ring on the left on a black background",
        height=128,
        width=128,
        num_inference_steps=4,
        max_sequence_length=48,
    ).images[0]
    assert image.size == (128, 128)


def test_the_prompt_is_encoded_as_in_training(folder: Path) -> None:
    embeds, text_ids = load_pipeline(folder).encode_prompt("a zorbo", max_sequence_length=48)
    assert embeds.shape == (1, 48, 192)
    assert text_ids.shape == (1, 48, 4)


def test_a_picture_depends_on_its_caption_and_seed_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.flux2_tiny.draw.NUM_STEPS", 2)
    pipeline = load_pipeline(folder)
    scenes = held_out_emblems(3, seed=0)
    together = draw_scenes(pipeline, scenes, seed=1)
    alone = draw_scenes(pipeline, scenes[2:], seed=3)
    # bf16 kernels differ with the batch size and the processor: a mean of 0.4 to 0.6; 35 to another scene.
    assert np.abs(together[2].astype(int) - alone[0]).mean() <= 2
    assert np.abs(together[0].astype(int) - together[1]).max() > 40


def test_the_untrained_transformer_is_small_and_predicts_nothing_yet() -> None:
    transformer = make_transformer()
    ids = {"img_ids": torch.zeros(1, 4, 4), "txt_ids": torch.zeros(1, 3, 4)}
    output = transformer(
        hidden_states=torch.randn(1, 4, 64),
        encoder_hidden_states=torch.randn(1, 3, 192),
        timestep=torch.tensor([0.5]),
        return_dict=False,
        **ids,
    )[0]
    assert float(output.detach().abs().max()) == 0
    assert sum(parameter.numel() for parameter in transformer.parameters()) < 6_000_000
