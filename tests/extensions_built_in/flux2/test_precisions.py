"""Every combination of `dtype`, `te_dtype` and `vae_dtype` trains and draws, on a CPU.

tests/contract/test_precisions.py has each pair of two of them, for every model.
"""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.tiny import tiny_config
from toolkit.config import SampleItem
from toolkit.dtypes import torch_dtype
from toolkit.encode.encodings import Encodings
from toolkit.encode.prompts import PromptEncoder
from toolkit.models.condition import Condition, SampleCondition
from toolkit.runtime.devices import autocast

pytestmark = pytest.mark.torture

PRECISIONS = ("fp32", "bf16", "fp16")
ITEM = SampleItem("a red circle", "blurry", 32, 32, 0, 4.0, 1, 1.0)


def _model(dtype: str, te_dtype: str, vae_dtype: str) -> Flux2TinyModel:
    config = tiny_config(te_dtype=te_dtype, vae_dtype=vae_dtype)
    return Flux2TinyModel(config, device=torch.device("cpu"), dtype=torch_dtype(dtype))


@cache
def _component(name: str, dtype: str) -> Any:
    """Loaded once for all combinations; the text encoder with its tokenizer."""
    model = _model(dtype, dtype, dtype)
    model.load(name)  # type: ignore[arg-type]
    return (model.text_encoder, model.tokenizer) if name == "text_encoder" else getattr(model, name)


@pytest.mark.parametrize(("dtype", "te_dtype", "vae_dtype"), list(itertools.product(PRECISIONS, repeat=3)))
def test_every_combination_of_precisions_trains_and_draws(
    dtype: str, te_dtype: str, vae_dtype: str, tmp_path: Path
) -> None:
    model = _model(dtype, te_dtype, vae_dtype)
    model.text_encoder, model.tokenizer = _component("text_encoder", te_dtype)
    model.vae, model.transformer = _component("vae", vae_dtype), _component("transformer", dtype)
    prompts = PromptEncoder(model, Encodings(print, overflow=tmp_path), fingerprint="", warn=print)
    for prompt in ITEM.prompts(model.card):
        prompts.add(prompt, folder=None)
    latents = model.encode_images(torch.zeros(1, 3, 32, 32)).float().requires_grad_(True)
    condition = Condition(prompts[ITEM.prompt][None])
    with autocast(model.device, model.dtype):
        velocity = model.get_noise_prediction(latents, torch.tensor([500.0]), condition)
    velocity.float().square().mean().backward()
    assert velocity.isfinite().all()
    assert latents.grad is not None
    shown = SampleCondition(
        {prompt: prompts[prompt] for prompt in ITEM.prompts(model.card)}, references=[Image.new("RGB", (64, 64), "red")]
    )
    with torch.no_grad(), autocast(model.device, model.dtype):
        pipeline = model.get_generation_pipeline()
        image = model.generate_single_image(pipeline, ITEM, shown, torch.Generator().manual_seed(0))
    assert image.size == (32, 32)
