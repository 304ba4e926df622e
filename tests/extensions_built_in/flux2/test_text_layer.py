"""Prompts that have been through the transformer's first layer for text before training: the same step, fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from extensions_built_in.diffusion_models.flux2.loading import text_layer_recipe
from tests import layouts
from tests.tiny import checked_of, tiny_config, tiny_model, write_job
from toolkit.cards import find_cards
from toolkit.config import NetworkConfig, SampleItem, load_job
from toolkit.encode.encodings import Encodings
from toolkit.encode.prompts import PromptEncoder, text_fingerprint
from toolkit.models.condition import Condition, SampleCondition
from toolkit.models.options import ModelOptions
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.runtime.devices import autocast

CPU = torch.device("cpu")
PROMPTS = ("a red circle", "a blue square")


def _model(*, embeds_text: bool, dtype: torch.dtype = torch.float32, **options: Any) -> Flux2TinyModel:
    return Flux2TinyModel(
        tiny_config(**options), device=CPU, dtype=dtype, options=ModelOptions(embeds_text=embeds_text)
    )


def _prompts(model: Flux2TinyModel, folder: Path) -> PromptEncoder:
    encodings = Encodings(print, overflow=folder)
    prompts = PromptEncoder(model, encodings, fingerprint=text_fingerprint(model), warn=print)
    for text in (*PROMPTS, "blurry"):
        prompts.add(text, folder=None)
    prompts.free()
    return prompts


def _step(model: Flux2TinyModel, prompts: PromptEncoder) -> list[Tensor]:
    """The prediction and every gradient of a LoRA, for a batch of two."""
    model.load("transformer")
    network = Network(model, NetworkConfig(linear=4), Draws(0))
    network.apply()
    condition = Condition(torch.stack([prompts[text] for text in PROMPTS]), guidance=1.0)
    noisy = torch.randn(2, 64, 4, 6, generator=torch.Generator().manual_seed(1))
    with autocast(model.device, model.dtype):
        velocity = model.get_noise_prediction(noisy, torch.tensor([300.0, 700.0]), condition)
    velocity.float().square().sum().backward()
    return [velocity.detach(), *(weight.grad for weight in network.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_the_same_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    found = []
    for embeds_text in (False, True):
        model = _model(embeds_text=embeds_text, dtype=dtype)
        found.append(_step(model, _prompts(model, tmp_path)))
    raw, embedded = found
    assert len(raw) > 20 and all(torch.equal(one, other) for one, other in zip(raw, embedded, strict=True))


def test_a_sample_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    item = SampleItem(PROMPTS[0], "blurry", 32, 48, 0, 4.0, 2, 1.0)
    drawn = []
    for embeds_text in (False, True):
        model = _model(embeds_text=embeds_text)
        prompts = _prompts(model, tmp_path)
        model.load("vae")
        model.load("transformer")
        condition = SampleCondition({text: prompts[text] for text in (PROMPTS[0], "blurry")})
        pipeline = model.get_generation_pipeline()
        drawn.append(model.generate_single_image(pipeline, item, condition, torch.Generator().manual_seed(1)))
    assert drawn[0].tobytes() == drawn[1].tobytes()


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_the_layer_alone_has_the_weights_of_the_loaded_transformer_in_every_layout(layout: str, tmp_path: Path) -> None:
    original = layouts.small_transformer(guidance_embeds=False)
    place = layouts.write_model(tmp_path / "model", layout, original, stem="flux-2-klein-base-4b")
    model = _model(embeds_text=True, dtype=torch.bfloat16, name_or_path=place)
    alone: Any = model.load_text_layer()
    model.load("transformer")
    assert torch.equal(alone.weight, model.transformer.context_embedder.weight)
    assert alone.weight.dtype == torch.bfloat16 and not alone.weight.requires_grad


def test_nothing_but_the_layer_is_read() -> None:
    recipe = text_layer_recipe(tiny_model().sources.find("transformer"), arch="flux2_tiny")
    assert len(recipe.weights.entries) == 1
    assert [name for name, _ in recipe.module.named_parameters()] == ["weight"]


def test_weights_of_another_transformer_make_another_entry(tmp_path: Path) -> None:
    """Equal prompts and text encoders, but the rows are not the same."""
    plain, embedded = (_model(embeds_text=embeds_text) for embeds_text in (False, True))
    assert text_fingerprint(plain) == plain.fingerprint("text_encoder") != text_fingerprint(embedded)
    original = layouts.small_transformer(guidance_embeds=False, joint_dim=192)
    place = layouts.write_model(tmp_path / "model", "released", original, stem="flux-2-klein-base-4b")
    other = _model(embeds_text=True, model_paths={"transformer": str(place)})
    assert text_fingerprint(other) != text_fingerprint(embedded)


def test_a_layer_that_is_trained_after_all_stops_the_step(tmp_path: Path) -> None:
    model = _model(embeds_text=True)
    prompts = _prompts(model, tmp_path)
    model.load("transformer")
    model.transformer.context_embedder.weight.requires_grad_(True)
    condition = Condition(prompts["blurry"].unsqueeze(0), guidance=1.0)
    with pytest.raises(AssertionError, match="as if it were frozen"):
        model.get_noise_prediction(torch.zeros(1, 64, 2, 2), torch.tensor([500.0]), condition)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, True),
        ({"network": {"transformer_only": False}}, False),
        ({"network": None, "train": {"full_finetune": True}}, False),
        ({"adapter": {"type": "mean_flow"}}, True),
        ({"adapter": {"type": "redux", "image_encoder_path": "google/siglip-base"}}, False),
    ],
)
def test_what_may_change_the_layer_or_its_rows_keeps_the_text_encoders_own(
    sections: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    assert load_job(write_job(tmp_path, **sections)).training().embeds_text is expected


def test_the_plans_count_fewer_bytes_of_text_and_the_layer(tmp_path: Path) -> None:
    card = find_cards()["flux2_klein_4b"]
    assert card.text_shape(is_embedded=True) == (512, 3072)
    assert card.text_shape(is_embedded=False) == (512, 7680)
    plan = checked_of(tmp_path).memory.plan
    assert plan.inputs.text_layer_parameters == 192 * 192
    layer = tiny_model("transformer").transformer.context_embedder
    assert layer.weight.numel() == plan.inputs.text_layer_parameters
