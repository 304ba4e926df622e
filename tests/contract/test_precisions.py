"""Every pair of `dtype`, `te_dtype` and `vae_dtype` trains and draws on a CPU, with one model of each family.

The others are tried with each precision of each component.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tiers import IS_TORTURE
from toolkit.config import ModelConfig, SampleItem
from toolkit.dtypes import torch_dtype
from toolkit.encode.encodings import Encodings
from toolkit.encode.prompts import PromptEncoder
from toolkit.models.base_model import BaseModel
from toolkit.models.condition import Condition, SampleCondition
from toolkit.runtime.devices import autocast
from toolkit.util.get_model import get_model_class

PRECISIONS = ("fp32", "bf16", "fp16")
# A Latin square: each pair of two settings once. All 27 stand in FLUX.2's own tests.
SETTINGS = [(PRECISIONS[i], PRECISIONS[j], PRECISIONS[(i + j) % 3]) for i in range(3) for j in range(3)]
EACH_ONCE = SETTINGS[::4]

Parts = dict[tuple[str, str], Any]


def _model(section: dict[str, Any], dtype: str, te_dtype: str, vae_dtype: str) -> BaseModel:
    config = ModelConfig.model_validate({**section, "te_dtype": te_dtype, "vae_dtype": vae_dtype})
    return get_model_class(config)(config, device=torch.device("cpu"), dtype=torch_dtype(dtype))


@pytest.fixture(scope="module")
def parts(model_section: dict[str, Any]) -> Parts:
    """Each component in each precision, loaded once; the text encoder with its tokenizer."""
    found: Parts = {}
    for dtype in PRECISIONS:
        model = _model(model_section, dtype, dtype, dtype)
        for name in ("text_encoder", "vae", "transformer"):
            model.load(name)
            found[name, dtype] = getattr(model, name)
        found["tokenizer", dtype] = model.tokenizer
    return found


@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize(("dtype", "te_dtype", "vae_dtype"), SETTINGS)
def test_every_pair_of_precisions_trains_and_draws(
    dtype: str,
    te_dtype: str,
    vae_dtype: str,
    model_section: dict[str, Any],
    is_first_of_family: bool,
    parts: Parts,
    tmp_path: Path,
) -> None:
    if (dtype, te_dtype, vae_dtype) not in EACH_ONCE and not (is_first_of_family or IS_TORTURE):
        pytest.skip("`make torture` runs it")
    model = _model(model_section, dtype, te_dtype, vae_dtype)
    model.text_encoder, model.tokenizer = parts["text_encoder", te_dtype], parts["tokenizer", te_dtype]
    model.vae, model.transformer = parts["vae", vae_dtype], parts["transformer", dtype]
    guidance = 1.0 if "fixed_guidance" in model.card.capabilities else 4.0
    item = SampleItem("a red circle", "blurry", 32, 32, 0, guidance, 1, 1.0)
    prompts = PromptEncoder(model, Encodings(print, overflow=tmp_path), fingerprint="", warn=print)
    for prompt in item.prompts(model.card):
        prompts.add(prompt, folder=None)
    condition = Condition(prompts[item.prompt][None])
    latents = model.encode_images(torch.zeros(1, 3, 32, 32)).float().requires_grad_(True)
    with autocast(model.device, model.dtype):
        velocity = model.get_noise_prediction(latents, torch.tensor([500.0]), condition)
    velocity.float().square().mean().backward()
    assert velocity.isfinite().all()
    assert latents.grad is not None and latents.grad.isfinite().all()
    has_references = "references" in model.card.capabilities
    references = [Image.new("RGB", (64, 64), "red")] if has_references else []
    shown = SampleCondition({prompt: prompts[prompt] for prompt in item.prompts(model.card)}, references=references)
    with torch.no_grad(), autocast(model.device, model.dtype):
        pipeline = model.get_generation_pipeline()
        image = model.generate_single_image(pipeline, item, shown, torch.Generator().manual_seed(0))
    assert image.size == (32, 32)
